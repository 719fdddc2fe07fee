// SPDX-License-Identifier: Apache-2.0
//
// What a network device talks to: Ethernet frames, each behind a VnetHeader (vnet_header.h) as a tap with
// IFF_VNET_HDR carries it. A network has one queue of them or several, which may be worked by several
// threads.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"

namespace vmm::backend {

// Frames in and out. Everything runs on the thread of the loop that it was started with.
class NetQueue {
 public:
  virtual ~NetQueue() = default;

  // Sends header and frame. A frame that cannot be sent now is dropped: Ethernet promises nothing. 0 or
  // -errno.
  virtual int send(std::span<const iovec> frame) = 0;
  // Receives one frame into the buffers: bytes, header included; -EAGAIN when nothing waits; another -errno.
  // What does not fit of a frame is lost.
  virtual int receive(std::span<const iovec> into) = 0;

  // `readable` is called when receive() may have something, while that is wanted. Level-triggered, and never
  // from within another call. May be started again after stop(). A queue that is not started gets no frames.
  virtual Result<void> start(EventLoop& loop, std::function<void()> readable) = 0;
  virtual void want_receive(bool wanted) = 0;  // at first off, and while the driver has no buffers
  virtual void stop() = 0;
};

// A network as a whole, and the first of its queues.
class Net : public NetQueue {
 public:
  // The other queues, if there are any. They are started after the first.
  [[nodiscard]] virtual std::span<const std::unique_ptr<NetQueue>> further_queues() const { return {}; }

  [[nodiscard]] virtual uint16_t mtu() const = 0;  // bytes of payload a frame can carry, 68..65535

  // Offloads, as <linux/if_tun.h> TUN_F_* bits: what may be left to this backend in frames that are sent, and
  // what it may leave to the driver in frames that are received.
  [[nodiscard]] virtual uint32_t send_offloads() const = 0;
  [[nodiscard]] virtual uint32_t receive_offloads() const = 0;
  // What the driver accepts in received frames (a subset of receive_offloads()). Called at start.
  virtual void set_offloads(uint32_t accepted) = 0;

  // Carrier; `changed` is called when it changes.
  [[nodiscard]] virtual bool link_up() const = 0;
  virtual void set_link_changed(std::function<void(bool up)> changed) = 0;
};

}  // namespace vmm::backend
