// SPDX-License-Identifier: Apache-2.0
//
// Virtio memory balloon (virtio 1.2, 5.5): the guest gives pages back to the host, those that the host asks
// for (inflate, deflate) and those that it has free anyway (free page reporting). It deflates by itself
// before it runs out of memory, and tells statistics of its own memory when asked.
//
// Missing: FREE_PAGE_HINT (for migration), PAGE_POISON (Linux then reports no pages if it poisons free ones).
// Ignored: which pages are deflated, since a page is had again by touching it; page numbers outside RAM.
#pragma once

#include <linux/virtio_balloon.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"
#include "vmm/core/log.h"

namespace vmm::virtio {

class Balloon final : public Device {
 public:
  static constexpr uint64_t kPageSize = 4096;  // of a page number, whatever the guest's pages are (5.5.6)

  struct Options {
    bool report_free_pages = true;  // offered to the driver
  };
  // What the guest said of its memory (5.5.6.3), as it counts; none: never said, or not that one.
  struct Statistics {
    // Linux's names for them, by tag (VIRTIO_BALLOON_S_*). Memory is in bytes.
    static constexpr std::array<std::string_view, VIRTIO_BALLOON_S_NR> kNames =
        VIRTIO_BALLOON_S_NAMES_WITH_PREFIX("");
    std::array<std::optional<uint64_t>, kNames.size()> values;
  };

  // `memory` must outlive the device.
  Balloon(EventLoop& loop, const GuestMemory& memory, std::string name, Options options);

  // Any thread. How much the guest is asked to give, and how much it says it gave: bytes.
  void set_target(uint64_t bytes);
  [[nodiscard]] uint64_t target() const { return uint64_t{target_.load()} * kPageSize; }
  [[nodiscard]] uint64_t actual() const { return uint64_t{actual_.load()} * kPageSize; }
  [[nodiscard]] bool has_driver() const { return has_driver_; }
  // Any thread: bytes handed back so far because they were reported as free; a page counts each time.
  [[nodiscard]] uint64_t reported() const { return reported_; }

  // The loop's thread: asks the guest for new statistics and calls `done` on the loop with them. At once with
  // none if there is no driver that tells them; dropped when the device stops, or when asked again before the
  // guest has answered.
  void ask_statistics(std::function<void(const std::optional<Statistics>&)> done);

  [[nodiscard]] uint16_t type() const override { return 5; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  [[nodiscard]] size_t config_size() const override { return 2 * sizeof(uint32_t); }  // num_pages, actual
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t offset, std::span<const std::byte> in) override;
  [[nodiscard]] EventLoop& loop() override { return loop_; }
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

 private:
  enum class Role : uint8_t { inflate, deflate, statistics, reporting, none };
  // Linux reports up to 32 ranges at once and wants a queue that has room for them.
  static constexpr std::array<uint16_t, 5> kQueueSizes{128, 128, 4, 32, 32};

  struct Inflation {  // the chain that is being worked on
    Chain chain;
    size_t offset = 0;  // bytes of page numbers done
  };

  [[nodiscard]] Role role(uint16_t queue) const;
  void handle_inflation(uint16_t index);
  void handle_statistics(uint16_t index);
  void give_back(const Inflation& inflation, size_t bytes);
  void discard(uint64_t first, uint64_t pages);
  void report(const Chain& chain);
  void fail(std::string_view why);

  EventLoop& loop_;
  const GuestMemory& memory_;
  const std::string name_;
  const Options options_;

  std::atomic<uint32_t> target_{0};  // pages
  std::atomic<uint32_t> actual_{0};  // pages, as the driver says; not to be relied on
  std::atomic<uint64_t> reported_{0};
  std::atomic<bool> has_driver_{false};

  // The loop's. Without a driver, or with a broken one, driver_ is none.
  std::span<Queue> queues_;
  Driver* driver_ = nullptr;
  uint64_t features_ = 0;
  std::optional<Inflation> inflation_;
  std::optional<Chain> statistics_;  // the driver's buffer, held until statistics are asked for (5.5.6.3)
  std::function<void(const std::optional<Statistics>&)> asked_;
  LogLimit complaints_{8};
};

}  // namespace vmm::virtio
