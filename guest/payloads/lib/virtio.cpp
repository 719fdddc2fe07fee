// SPDX-License-Identifier: Apache-2.0
#include "virtio.h"

#include "console.h"
#include "cpu.h"

namespace payload {
namespace {

constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;
constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;

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
  available_.index = 0;
  used_.index = 0;

  transport.set_status(0);
  check(wait_until([&] { return transport.status() == 0; }), "virtio: status reads 0 after reset");
  transport.set_status(kStatusAcknowledge);
  transport.set_status(kStatusAcknowledge | kStatusDriver);
  check((transport.device_features() & kFeatureVersion1) != 0, "virtio: device offers VERSION_1");
  transport.set_driver_features(kFeatureVersion1);
  transport.set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  check((transport.status() & kStatusFeaturesOk) != 0, "virtio: device accepts FEATURES_OK");
  check(transport.select_queue(0) >= kSize, "virtio: queue 0 is large enough");
  transport.enable_queue(kSize, reinterpret_cast<uint64_t>(descriptors_),
                         reinterpret_cast<uint64_t>(&available_), reinterpret_cast<uint64_t>(&used_), vector);
  transport.set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
}

void VirtioQueue::submit(const VirtioBuffer* buffers, size_t count) {
  check(count >= 1 && count <= kSize, "virtio: chain fits the queue");
  for (uint16_t i = 0; i < count; ++i) {
    const bool last = i + 1u == count;
    descriptors_[i] = {reinterpret_cast<uint64_t>(buffers[i].data), buffers[i].size,
                       static_cast<uint16_t>((buffers[i].device_writes ? kDescriptorWrite : 0) |
                                             (last ? 0 : kDescriptorNext)),
                       static_cast<uint16_t>(last ? 0 : i + 1)};
  }
  const uint16_t index = available_.index;
  available_.ring[index % kSize] = 0;  // the chain always starts at descriptor 0
  barrier();
  __atomic_store_n(&available_.index, static_cast<uint16_t>(index + 1), __ATOMIC_RELEASE);
  barrier();
  transport_->notify(0);
}

bool VirtioQueue::done() const {
  return __atomic_load_n(&used_.index, __ATOMIC_ACQUIRE) != taken_;
}

uint32_t VirtioQueue::take() {
  const UsedElement& element = used_.ring[taken_ % kSize];
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
