// SPDX-License-Identifier: Apache-2.0
//
// vhost-net (<linux/vhost.h>): the host's kernel works a pair of queues between guest memory and a tap, so
// that no frame passes through this process. Here are the system calls; what is negotiated, and whether a
// ring lies in guest memory, is judged by the device before.
//
// Missing: dirty logging, IOMMU messages, busy polling, more than one pair.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class Vhost {
 public:
  // A queue as the kernel is to work it. What is named here must stay until stop().
  struct Ring {
    unsigned index = 0;  // 0: received frames, 1: sent ones
    unsigned size = 0;
    GuestSlice descriptors;
    GuestSlice available;
    GuestSlice used;
    int kick = -1;   // eventfds: the driver has added buffers,
    int call = -1;   // they have been used,
    int error = -1;  // or the ring is broken
  };
  // The kernel's end of it; a test may stand in.
  class Control {
   public:
    virtual ~Control() = default;
    virtual int call(unsigned long request, void* argument) = 0;  // 0 or -errno
  };

  // Opens /dev/vhost-net. `tap`, a queue of a tap device whose frames have headers of 12 bytes, must outlive
  // this.
  static Result<std::unique_ptr<Vhost>> open(int tap);
  static Result<std::unique_ptr<Vhost>> create(std::unique_ptr<Control> control, int tap);

  // Virtio feature bits that the kernel needs to know of; others are nothing to it.
  [[nodiscard]] uint64_t features() const { return features_; }

  // Begins to work the rings, with `features` (of features()) negotiated. Nothing is begun where it fails.
  Result<void> start(const GuestMemory& memory, uint64_t features, std::span<const Ring> rings);
  // When it returns the kernel touches neither rings nor buffers any more.
  void stop();

 private:
  static constexpr unsigned kRings = 2;

  Vhost(std::unique_ptr<Control> control, uint64_t features, int tap);
  Result<void> set_memory(const GuestMemory& memory);
  Result<void> set_ring(const Ring& ring);
  Result<void> set(const char* act, unsigned long request, unsigned index, int value);

  const std::unique_ptr<Control> control_;
  const uint64_t features_;
  const int tap_;
};

}  // namespace vmm::backend
