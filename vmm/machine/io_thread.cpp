// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/io_thread.h"

#include <pthread.h>

namespace vmm {

Result<std::unique_ptr<IoThread>> IoThread::create() {
  VMM_TRY_ASSIGN(auto loop, EventLoop::create());
  return std::unique_ptr<IoThread>{new IoThread{std::move(loop)}};
}

void IoThread::start(const char* name) {
  thread_ = std::thread{[this] { loop_->run(); }};
  ::pthread_setname_np(thread_.native_handle(), name);
}

void IoThread::stop() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

}  // namespace vmm
