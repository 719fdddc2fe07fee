// SPDX-License-Identifier: Apache-2.0
// Lesson: what a driver can do wrong with a virtqueue, and what the device must make of it.
//
// Shows: rings that loop, indexes out of range, buffers that are no memory. The device asks to be reset and
//   stops; a reset brings it back; its neighbour never notices.
// Manual: virtio 1.2, 2.1.2 (DEVICE_NEEDS_RESET), 2.7.5 "The Virtqueue Descriptor Table", 2.7.6 "The
//   Virtqueue Available Ring".
// See: one line for each mistake, and the exit status 33. The monitor's log names each mistake, too.
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "multiboot.h"
#include "virtio_devices.h"

using namespace payload;

namespace {

using Descriptor = VirtioRings::Descriptor;
constexpr uint16_t kSize = VirtioRings::kSize;
constexpr uint16_t kChainedWrite = VirtioRings::kNext | VirtioRings::kDeviceWrites;

VirtioQueue queue;
uint8_t numbers[16];
Descriptor indirect_table[1];

uint64_t address(const void* object) {
  return reinterpret_cast<uint64_t>(object);
}

// Each leaves descriptor 0 as the head of what is wrong, unless it breaks the available ring itself. The
// value is how far the available index is moved.
struct Mistake {
  const char* what;
  uint16_t (*make)(VirtioRings& rings);
};

constexpr Mistake kMistakes[] = {
    {"a chain that leads to itself",
     [](VirtioRings& rings) -> uint16_t {
       rings.descriptors[0] = {address(numbers), 1, kChainedWrite, 0};
       return 1;
     }},
    {"two descriptors that lead to each other",
     [](VirtioRings& rings) -> uint16_t {
       rings.descriptors[0] = {address(numbers), 1, kChainedWrite, 1};
       rings.descriptors[1] = {address(numbers), 1, kChainedWrite, 0};
       return 1;
     }},
    {"a next descriptor that does not exist",
     [](VirtioRings& rings) -> uint16_t {
       rings.descriptors[0] = {address(numbers), 1, kChainedWrite, kSize};
       return 1;
     }},
    {"a head that does not exist",
     [](VirtioRings& rings) -> uint16_t {
       rings.available.ring[rings.available.index % kSize] = 0xFFFF;
       return 1;
     }},
    {"an available index far ahead",
     [](VirtioRings& rings) -> uint16_t {
       rings.descriptors[0] = {address(numbers), 1, VirtioRings::kDeviceWrites, 0};
       return 0x8000;
     }},
    {"a buffer in the I/O APIC",
     [](VirtioRings& rings) -> uint16_t {
       rings.descriptors[0] = {0xFEC00000, 16, VirtioRings::kDeviceWrites, 0};
       return 1;
     }},
    {"a buffer that wraps around the address space",
     [](VirtioRings& rings) -> uint16_t {
       rings.descriptors[0] = {~uint64_t{0} - 15, 32, VirtioRings::kDeviceWrites, 0};
       return 1;
     }},
    {"an indirect table that was not negotiated",
     [](VirtioRings& rings) -> uint16_t {
       indirect_table[0] = {address(numbers), 16, VirtioRings::kDeviceWrites, 0};
       rings.descriptors[0] = {address(indirect_table), sizeof(indirect_table), VirtioRings::kIndirect, 0};
       return 1;
     }},
};

void request_works(const char* when) {
  const VirtioBuffer buffer{numbers, sizeof(numbers), true};
  check(queue.run(&buffer, 1) > 0, when);
}

void make_mistakes(const VirtioTransport& entropy) {
  for (const Mistake& mistake : kMistakes) {
    queue.start(entropy);
    VirtioRings& rings = queue.rings();
    rings.available.ring[rings.available.index % kSize] = 0;
    const uint16_t entries = mistake.make(rings);
    queue.publish(entries);
    print(mistake.what);
    if (!wait_until([&] { return (entropy.status() & kStatusNeedsReset) != 0; })) {
      print('\n');
      fail("the device asks for a reset");
    }
    check(!queue.done(), "the broken chain is not used");
    queue.start(entropy);
    request_works("a reset brings the device back");
    print(": needs reset, and works after it\n");
  }
}

void bother(const VirtioTransport& entropy) {
  queue.start(entropy);
  check(entropy.select_queue(0xFFFF) == 0, "a queue that does not exist has size 0");
  entropy.notify(0);
  entropy.notify(7);
  entropy.notify(0xFFFF);
  request_works("doorbells without reason change nothing");
  print("doorbells without reason: ignored\n");

  const VirtioBuffer buffer{numbers, sizeof(numbers), true};
  for (int i = 0; i < 20; ++i) {
    queue.start(entropy);
    queue.submit(&buffer, 1);
    entropy.set_status(0);
    check(wait_until([&] { return entropy.status() == 0; }), "a reset with a request in flight");
  }
  queue.start(entropy);
  request_works("the device works after 20 such resets");
  print("reset with a request in flight: 20 times\n");
}

void run(const VirtioTransport& entropy, const VirtioTransport& block) {
  make_mistakes(entropy);
  bother(entropy);
  use_block(block);
}

PciDevice find(VirtioId id) {
  const PciDevice device = find_pci(PciAccess::ports, 0, VirtioPci::kVendor, VirtioPci::device_id(id));
  if (device.present()) device.enable(false);
  return device;
}

}  // namespace

void payload_main(const Boot& boot) {
  const PciDevice entropy = find(VirtioId::entropy);
  if (entropy.present()) {
    const PciDevice block = find(VirtioId::block);
    check(block.present(), "a virtio block device on PCI bus 0");
    run(VirtioPci{entropy}, VirtioPci{block});
  } else {
    const char* command_line = multiboot_command_line(boot.info);
    const uint64_t entropy_base = find_virtio_mmio(VirtioId::entropy, command_line);
    const uint64_t block_base = find_virtio_mmio(VirtioId::block, command_line);
    check(entropy_base != 0 && block_base != 0, "virtio entropy and block devices");
    run(VirtioMmio{entropy_base}, VirtioMmio{block_base});
  }
  pass();
}
