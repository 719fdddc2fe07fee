// SPDX-License-Identifier: Apache-2.0
//
// An order between threads that the kernel makes and ThreadSanitizer cannot see: what an io_uring reads or
// writes on behalf of a thread is no call of that thread's. Nothing in other builds.
#pragma once

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace vmm {

// All before this, in this thread, comes before all that follows a later_than() of the same object.
inline void earlier_than([[maybe_unused]] const void* object) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(const_cast<void*>(object));
#endif
}

inline void later_than([[maybe_unused]] const void* object) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(const_cast<void*>(object));
#endif
}

}  // namespace vmm
