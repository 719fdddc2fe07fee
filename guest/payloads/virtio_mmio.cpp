// SPDX-License-Identifier: Apache-2.0
// Lesson: a virtio driver over MMIO, the whole of it: find the registers, agree on features, give the
// device a queue.
//
// Shows: the initialisation sequence, a split queue in memory, a doorbell, and polling the used ring,
//   with an entropy and a block device.
// Manual: virtio 1.2, 4.2 "Virtio Over MMIO", 3.1.1 "Driver Requirements: Device Initialization", 2.7
//   "Split Virtqueues". The driver is lib/virtio.cpp and lib/virtio_mmio.cpp.
// See: what each device answered, and the exit status 33.
#include "boot.h"
#include "console.h"
#include "multiboot.h"
#include "virtio_devices.h"

using namespace payload;

void payload_main(const Boot& boot) {
  check(boot.magic == kMultibootMagic, "EAX has the Multiboot magic");
  const char* command_line = multiboot_command_line(boot.info);
  const uint64_t entropy = find_virtio_mmio(VirtioId::entropy, command_line);
  check(entropy != 0, "an entropy device in a virtio-mmio slot");
  print("entropy at ", Hex{entropy}, '\n');
  use_entropy(VirtioMmio{entropy});

  const uint64_t block = find_virtio_mmio(VirtioId::block, command_line);
  check(block != 0, "a block device in a virtio-mmio slot");
  print("block at ", Hex{block}, '\n');
  use_block(VirtioMmio{block});
  pass();
}
