// SPDX-License-Identifier: Apache-2.0
//
// virtio console with one port (virtio 1.2, 5.3): hvc0 in a Linux guest. It has the size of the reader's
// window and tells the driver when that changes.
//
// Input waits at its source until the driver has given room for it. Output does not wait for the reader:
// Linux spins with interrupts off until a console write is taken, so a reader that stopped would stop the
// guest. What the backend cannot keep it drops and counts.
//
// Missing: MULTIPORT. Ignored: readable buffers in the receive queue, writable ones in the transmit queue.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "devices/backend/console.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"
#include "vmm/core/event_loop.h"

namespace vmm::virtio {

class Console final : public Device {
 public:
  // The backend's callbacks come on `loop`. Both must outlive the console.
  Console(std::string name, EventLoop& loop, backend::Console& backend);
  ~Console() override;

  [[nodiscard]] uint16_t type() const override;
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  [[nodiscard]] size_t config_size() const override;
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t offset, std::span<const std::byte> in) override;
  [[nodiscard]] EventLoop& loop() override { return loop_; }
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

 private:
  static constexpr uint16_t kReceive = 0;
  static constexpr uint16_t kTransmit = 1;
  // Linux fills the receive queue with pages of its own: people type slowly, so few are enough.
  static constexpr std::array<uint16_t, 2> kQueueSizes{16, 64};

  struct Output {  // the chain that is being written out
    Chain chain;
    size_t offset = 0;
  };

  size_t receive(std::span<const std::byte> input);  // bytes taken
  void transmit();
  void set_window(backend::WindowSize window);
  [[nodiscard]] bool announces_size() const;  // the driver wants to know
  void fail(QueueFault fault);

  const std::string name_;
  EventLoop& loop_;
  backend::Console& backend_;
  std::atomic<backend::WindowSize> window_;  // read by vCPUs

  // On the loop's thread. Without a driver, or with a broken one, driver_ is none.
  Driver* driver_ = nullptr;
  std::span<Queue> queues_;
  uint64_t features_ = 0;
  bool input_waits_ = true;  // at the backend, for resume()
  std::optional<Output> output_;
};

}  // namespace vmm::virtio
