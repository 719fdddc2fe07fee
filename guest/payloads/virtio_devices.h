// SPDX-License-Identifier: Apache-2.0
// What the two virtio lessons do with a device once its transport is found; the same over PCI and MMIO.
#pragma once

#include "virtio.h"

namespace payload {

// Random bytes twice; they must differ (virtio 1.2, 5.4).
void use_entropy(const VirtioTransport& transport);
// Reads sector 0 and prints its first line, writes sector 1 and reads it back (or is refused on a read-only
// disk), asks for the serial number, and makes requests that must be refused (virtio 1.2, 5.2).
void use_block(const VirtioTransport& transport);

}  // namespace payload
