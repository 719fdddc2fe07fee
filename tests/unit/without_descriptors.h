// SPDX-License-Identifier: Apache-2.0
//
// What an event loop does about a client while the process may open no descriptor.
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <ctime>
#include <functional>
#include <thread>

#include "vmm/core/event_loop.h"

namespace vmm {

// The time that the loop's thread works in 200 ms in which the client that `connect` makes cannot be
// accepted.
inline std::chrono::nanoseconds work_without_descriptors(EventLoop& loop,
                                                         const std::function<void()>& connect) {
  const auto worked = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
  };
  rlimit before{};
  std::chrono::nanoseconds work{};
  loop.call([&] {  // on the loop's thread, so that nobody is accepted in between
    connect();
    ::getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
    work = -worked();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds{200});
  loop.call([&] { work += worked(); });
  ::setrlimit(RLIMIT_NOFILE, &before);
  return work;
}

}  // namespace vmm
