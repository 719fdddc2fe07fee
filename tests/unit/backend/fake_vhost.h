// SPDX-License-Identifier: Apache-2.0
//
// The kernel's end of vhost-net, for tests: keeps what it is told, and refuses what the kernel refuses.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "devices/backend/vhost.h"
#include "devices/backend/vhost_abi.h"

namespace vmm::backend {

class FakeVhost {
 public:
  struct Ring {
    unsigned size = 0;
    vhost_vring_addr addresses{};
    int kick = -1;
    int call = -1;
    int error = -1;
    int tap = -1;
  };
  struct State {
    uint64_t features = 0;
    std::vector<vhost_memory_region> memory;
    std::array<Ring, 2> rings;
  };

  // May be used up to the end of this.
  [[nodiscard]] std::unique_ptr<Vhost::Control> control() { return std::make_unique<End>(*this); }

  [[nodiscard]] State state() {
    const std::lock_guard lock{mutex_};
    return state_;
  }
  [[nodiscard]] bool running() {
    const auto now = state();
    return now.rings[0].tap >= 0 || now.rings[1].tap >= 0;
  }
  // From now on such a call fails.
  void refuse(unsigned long request) {
    const std::lock_guard lock{mutex_};
    refused_ = {request};
  }
  void refuse_nothing() {
    const std::lock_guard lock{mutex_};
    refused_.clear();
  }

  uint64_t features =
      1ULL << 15 | 1ULL << 24 | 1ULL << 26 | 1ULL << 27 | 1ULL << 28 | 1ULL << 29 | 1ULL << 32;

 private:
  class End final : public Vhost::Control {
   public:
    explicit End(FakeVhost& fake) : fake_(fake) {}
    int call(unsigned long request, void* argument) override { return fake_.call(request, argument); }

   private:
    FakeVhost& fake_;
  };

  int call(unsigned long request, void* argument) {
    const std::lock_guard lock{mutex_};
    if (refused_.contains(request)) return -EIO;
    switch (request) {
      case VHOST_SET_OWNER:
        return std::exchange(owned_, true) ? -EBUSY : 0;
      case VHOST_GET_FEATURES:
        std::memcpy(argument, &features, sizeof features);
        return 0;
      case VHOST_SET_FEATURES:
        std::memcpy(&state_.features, argument, sizeof state_.features);
        return (state_.features & ~features) != 0 ? -EOPNOTSUPP : 0;
      case VHOST_SET_MEM_TABLE:
        return set_memory(static_cast<const std::byte*>(argument));
      case VHOST_SET_VRING_ADDR: {
        vhost_vring_addr addresses;
        std::memcpy(&addresses, argument, sizeof addresses);
        if (addresses.index >= state_.rings.size()) return -ENOBUFS;
        state_.rings[addresses.index].addresses = addresses;
        return 0;
      }
      default:
        vhost_vring_file file;
        std::memcpy(&file, argument, sizeof file);
        return file.index < state_.rings.size() ? set_ring(request, state_.rings[file.index], file.fd)
                                                : -ENOBUFS;
    }
  }
  int set_memory(const std::byte* table) {
    vhost_memory head;
    std::memcpy(&head, table, sizeof head);
    state_.memory.resize(head.nregions);
    std::memcpy(state_.memory.data(), table + sizeof head, head.nregions * sizeof(vhost_memory_region));
    return 0;
  }
  int set_ring(unsigned long request, Ring& ring, int value) {
    switch (request) {
      case VHOST_SET_VRING_NUM:
        if (ring.tap >= 0) return -EBUSY;
        ring.size = static_cast<unsigned>(value);
        return 0;
      case VHOST_SET_VRING_BASE:
        if (ring.tap >= 0) return -EBUSY;
        return value == 0 ? 0 : -EINVAL;
      case VHOST_SET_VRING_KICK:
        ring.kick = value;
        return 0;
      case VHOST_SET_VRING_CALL:
        ring.call = value;
        return 0;
      case VHOST_SET_VRING_ERR:
        ring.error = value;
        return 0;
      case VHOST_NET_SET_BACKEND: {
        const bool shown =
            owned_ && !state_.memory.empty() && ring.size != 0 && ring.addresses.desc_user_addr != 0;
        if (value >= 0 && !shown) return -EFAULT;
        ring.tap = value;
        return 0;
      }
      default:
        return -ENOTTY;
    }
  }

  std::mutex mutex_;
  bool owned_ = false;
  State state_;
  std::set<unsigned long> refused_;
};

}  // namespace vmm::backend
