// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/intx.h"

namespace vmm::pci {

void IntxWire::drive() {
  const std::lock_guard lock{mutex_};
  if (drivers_++ == 0) line_.set(true);
}

void IntxWire::release() {
  const std::lock_guard lock{mutex_};
  if (--drivers_ == 0) line_.set(false);
}

IntxPin::~IntxPin() {
  set_pending(false);
}

void IntxPin::set_pending(bool pending) {
  const std::lock_guard lock{mutex_};
  if (pending && !pending_ && on_pending_) on_pending_();
  pending_ = pending;
  update();
}

void IntxPin::set_enabled(bool enabled) {
  const std::lock_guard lock{mutex_};
  enabled_ = enabled;
  update();
}

bool IntxPin::pending() const {
  const std::lock_guard lock{mutex_};
  return pending_;
}

void IntxPin::update() {
  const bool drive = pending_ && enabled_;
  if (drive == driving_) return;
  driving_ = drive;
  if (drive) {
    wire_.drive();
  } else {
    wire_.release();
  }
}

}  // namespace vmm::pci
