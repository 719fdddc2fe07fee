// SPDX-License-Identifier: Apache-2.0
//
// <linux/kvm.h> as C++ must read it; include this instead.
//
// The header ends several structures with __DECLARE_FLEX_ARRAY, which puts an empty structure before the
// array. In C that has no size; in C++ it has one byte, so the array moves by four and the size, which is
// part of an ioctl's number, grows: KVM then refuses the call, or reads the wrong bytes. Later kernel headers
// declare a plain array for C++.
#pragma once

#include <linux/stddef.h>

#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]  // NOLINT(bugprone-reserved-identifier): theirs

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"  // an array without a size, as the kernel has them
#include <linux/kvm.h>
#pragma GCC diagnostic pop

#include <cstddef>

// Also fails if <linux/kvm.h> came first.
static_assert(sizeof(kvm_cpuid2) == 8 && offsetof(kvm_cpuid2, entries) == 8);
static_assert(sizeof(kvm_msrs) == 8 && offsetof(kvm_msrs, entries) == 8);
static_assert(sizeof(kvm_irq_routing) == 8 && offsetof(kvm_irq_routing, entries) == 8);
static_assert(sizeof(kvm_stats_desc) == 16 && offsetof(kvm_stats_desc, name) == 16);
static_assert(sizeof(kvm_signal_mask) == 4 && offsetof(kvm_signal_mask, sigset) == 4);
