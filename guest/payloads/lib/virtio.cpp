// SPDX-License-Identifier: Apache-2.0
#include "virtio.h"

#include "console.h"
#include "cpu.h"

namespace payload {
namespace {

constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;

// Stores to the rings are seen by the device in program order on x86; what must not happen is that a later
// load passes an earlier store (2.7.13.4.1), so the full barrier. A locked instruction, as MFENCE is missing
// from KVM's emulator.
void barrier() {
  asm volatile("lock; addl $0, (%%rsp)" : : : "memory", "cc");
}

}  // namespace

void VirtioQueue::start(const VirtioTransport& transport, uint16_t vector) {
  transport_ = &transport;
  taken_ = 0;
  rings_.available.index = 0;
  rings_.used.index = 0;

  transport.set_status(0);
  check(wait_until([&] { return transport.status() == 0; }), "virtio: status reads 0 after reset");
  transport.set_status(kStatusAcknowledge);
  transport.set_status(kStatusAcknowledge | kStatusDriver);
  check((transport.device_features() & kFeatureVersion1) != 0, "virtio: device offers VERSION_1");
  transport.set_driver_features(kFeatureVersion1);
  transport.set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  check((transport.status() & kStatusFeaturesOk) != 0, "virtio: device accepts FEATURES_OK");
  check(transport.select_queue(0) >= kSize, "virtio: queue 0 is large enough");
  const auto address = [](const void* ring) { return reinterpret_cast<uint64_t>(ring); };
  transport.enable_queue(kSize, address(rings_.descriptors), address(&rings_.available),
                         address(&rings_.used), vector);
  transport.set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
}

void VirtioQueue::submit(const VirtioBuffer* buffers, size_t count) {
  check(count >= 1 && count <= kSize, "virtio: chain fits the queue");
  for (uint16_t i = 0; i < count; ++i) {
    const bool last = i + 1u == count;
    const int flags =
        (buffers[i].device_writes ? VirtioRings::kDeviceWrites : 0) | (last ? 0 : VirtioRings::kNext);
    rings_.descriptors[i] = {reinterpret_cast<uint64_t>(buffers[i].data), buffers[i].size,
                             static_cast<uint16_t>(flags), static_cast<uint16_t>(last ? 0 : i + 1)};
  }
  rings_.available.ring[rings_.available.index % kSize] = 0;  // the chain always starts at descriptor 0
  publish();
}

void VirtioQueue::publish(uint16_t count) {
  barrier();
  __atomic_store_n(&rings_.available.index, static_cast<uint16_t>(rings_.available.index + count),
                   __ATOMIC_RELEASE);
  barrier();
  transport_->notify(0);
}

bool VirtioQueue::done() const {
  return __atomic_load_n(&rings_.used.index, __ATOMIC_ACQUIRE) != taken_;
}

uint32_t VirtioQueue::take() {
  const auto& element = rings_.used.ring[taken_ % kSize];
  ++taken_;
  check(element.id == 0, "virtio: the used element names our chain");
  return element.size;
}

uint32_t VirtioQueue::run(const VirtioBuffer* buffers, size_t count) {
  submit(buffers, count);
  check(wait_until([this] { return done(); }), "virtio: the device uses the buffer in time");
  return take();
}

}  // namespace payload

// A class with pure virtual functions refers to this.
extern "C" void __cxa_pure_virtual() {
  payload::fail("pure virtual call");
}
