// SPDX-License-Identifier: Apache-2.0
//
// Whether a loop's thread is better off under SCHED_BATCH (sched(7)), where waking up does not interrupt
// whoever runs on that CPU: the guest, when it rings; another process, when it writes to a tap. If the loop
// goes first, a guest that has one request at a time need not halt in between. If the others do, they add all
// that they have, and it is one batch with one interrupt.
#pragma once

namespace vmm {

class BatchPolicy {
 public:
  [[nodiscard]] bool batch() const { return batch_; }

  // The loop is about to sleep, and has taken up so many requests since it last did. True if it is to sleep
  // under SCHED_BATCH. What pays is seen by trying now and then: if many requests come together.
  [[nodiscard]] bool sleeps_after(unsigned requests) {
    if (requests == 0) return batch_;
    if (batch_) {
      level_ += requests - level_ / kSpan;
      if (level_ >= kSpan * kMany) return true;
    } else if (++waited_ < kPause) {
      return false;
    }
    waited_ = 0;
    level_ = 2 * kSpan * kMany;
    batch_ = !batch_;
    return batch_;
  }

 private:
  static constexpr unsigned kMany = 5;     // requests in the mean
  static constexpr unsigned kSpan = 8;     // sleeps that the mean goes back
  static constexpr unsigned kPause = 128;  // sleeps until it is tried again

  bool batch_ = false;
  unsigned waited_ = 0;
  unsigned level_ = 0;  // the mean, times kSpan
};

}  // namespace vmm
