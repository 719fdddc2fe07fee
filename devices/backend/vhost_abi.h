// SPDX-License-Identifier: Apache-2.0
//
// <linux/vhost.h> as C++ can read it; include this instead. It draws in <linux/virtio_ring.h>, whose inline
// functions for the layout of old rings are C only.
#pragma once

#define VIRTIO_RING_NO_LEGACY
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"  // an array without a size, as the kernel has them
#include <linux/vhost.h>
#pragma GCC diagnostic pop
