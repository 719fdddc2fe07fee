// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/vhost.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "devices/backend/vhost_abi.h"

namespace vmm::backend {
namespace {

constexpr const char* kDevice = "/dev/vhost-net";

class KernelControl final : public Vhost::Control {
 public:
  explicit KernelControl(Fd device) : device_(std::move(device)) {}
  int call(unsigned long request, void* argument) override {
    return ::ioctl(device_.get(), request, argument) < 0 ? -errno : 0;
  }

 private:
  const Fd device_;
};

tl::unexpected<Error> refusal(int error) {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return fail("open {}: this host has none; run: sudo modprobe vhost_net, or leave out vhost", kDevice);
    case EACCES:
    case EPERM:
      return fail(
          "open {}: permission denied; join its group (sudo usermod -aG kvm $USER), or leave out vhost",
          kDevice);
    default:
      return fail(error, "open {}", kDevice);
  }
}

uint64_t address_of(const GuestSlice& slice) {
  return reinterpret_cast<uint64_t>(slice.iov().iov_base);
}

}  // namespace

Result<std::unique_ptr<Vhost>> Vhost::open(int tap) {
  Fd device{::open(kDevice, O_RDWR | O_CLOEXEC)};
  if (!device) return refusal(errno);
  return create(std::make_unique<KernelControl>(std::move(device)), tap);
}

Result<std::unique_ptr<Vhost>> Vhost::create(std::unique_ptr<Control> control, int tap) {
  if (const int error = control->call(VHOST_SET_OWNER, nullptr); error != 0) {
    return fail(-error, "take {}", kDevice);
  }
  uint64_t features = 0;
  if (const int error = control->call(VHOST_GET_FEATURES, &features); error != 0) {
    return fail(-error, "ask {} for its features", kDevice);
  }
  return std::unique_ptr<Vhost>{new Vhost{std::move(control), features, tap}};
}

Vhost::Vhost(std::unique_ptr<Control> control, uint64_t features, int tap)
    : control_(std::move(control)), features_(features), tap_(tap) {}

Result<void> Vhost::start(const GuestMemory& memory, uint64_t features, std::span<const Ring> rings) {
  const auto begin = [&]() -> Result<void> {
    if (const int error = control_->call(VHOST_SET_FEATURES, &features); error != 0) {
      return fail(-error, "set the features of vhost-net to {:#x}", features);
    }
    VMM_TRY(set_memory(memory));
    for (const auto& ring : rings) VMM_TRY(set_ring(ring));
    for (const auto& ring : rings) {
      VMM_TRY(set("give the tap to vhost-net", VHOST_NET_SET_BACKEND, ring.index, tap_));
    }
    return {};
  };
  auto begun = begin();
  if (!begun) stop();
  return begun;
}

Result<void> Vhost::set_memory(const GuestMemory& memory) {
  const auto regions = memory.regions();
  std::vector<std::byte> buffer(sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region));
  const auto count = static_cast<uint32_t>(regions.size());
  std::memcpy(buffer.data() + offsetof(vhost_memory, nregions), &count, sizeof count);
  size_t offset = sizeof(vhost_memory);
  for (const auto& region : regions) {
    vhost_memory_region entry{};
    entry.guest_phys_addr = region.base.raw;
    entry.memory_size = region.mapping.size();
    entry.userspace_addr = reinterpret_cast<uint64_t>(region.mapping.data());
    std::memcpy(buffer.data() + offset, &entry, sizeof entry);
    offset += sizeof entry;
  }
  if (const int error = control_->call(VHOST_SET_MEM_TABLE, buffer.data()); error != 0) {
    return fail(-error, "show guest memory to vhost-net");
  }
  return {};
}

Result<void> Vhost::set_ring(const Ring& ring) {
  VMM_TRY(set("set the size of a queue of vhost-net", VHOST_SET_VRING_NUM, ring.index,
              static_cast<int>(ring.size)));
  VMM_TRY(set("set the beginning of a queue of vhost-net", VHOST_SET_VRING_BASE, ring.index, 0));
  vhost_vring_addr addresses{};
  addresses.index = ring.index;
  addresses.desc_user_addr = address_of(ring.descriptors);
  addresses.avail_user_addr = address_of(ring.available);
  addresses.used_user_addr = address_of(ring.used);
  if (const int error = control_->call(VHOST_SET_VRING_ADDR, &addresses); error != 0) {
    return fail(-error, "show a queue to vhost-net");
  }
  VMM_TRY(set("give an eventfd to vhost-net", VHOST_SET_VRING_CALL, ring.index, ring.call));
  VMM_TRY(set("give an eventfd to vhost-net", VHOST_SET_VRING_ERR, ring.index, ring.error));
  return set("give an eventfd to vhost-net", VHOST_SET_VRING_KICK, ring.index, ring.kick);
}

// Taking the tap away waits for what the kernel has begun. The eventfds are the machine's, which goes before
// this does.
void Vhost::stop() {
  for (const auto request :
       {VHOST_NET_SET_BACKEND, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR}) {
    for (unsigned index = 0; index < kRings; ++index) {
      [[maybe_unused]] const auto taken = set("", request, index, VHOST_FILE_UNBIND);
    }
  }
}

// vhost_vring_state and vhost_vring_file are alike.
Result<void> Vhost::set(const char* act, unsigned long request, unsigned index, int value) {
  static_assert(sizeof(vhost_vring_state) == sizeof(vhost_vring_file));
  vhost_vring_file argument{};
  argument.index = index;
  argument.fd = value;
  if (const int error = control_->call(request, &argument); error != 0) return fail(-error, "{}", act);
  return {};
}

}  // namespace vmm::backend
