// SPDX-License-Identifier: Apache-2.0
#include "virtio_devices.h"

#include <initializer_list>

#include "console.h"

namespace payload {
namespace {

VirtioQueue entropy_queue;
VirtioQueue block_queue;

constexpr uint32_t kSectorSize = 512;

// virtio 1.2, 5.2.6
enum RequestType : uint32_t { kRead = 0, kWrite = 1, kGetId = 8, kNoSuchType = 0x7777 };
enum RequestStatus : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2, kNotWritten = 0xEE };

struct RequestHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(RequestHeader) == 16);

RequestHeader header;
volatile uint8_t status;
alignas(16) uint8_t sector_data[kSectorSize];

// One request of three parts: header, data, status byte. Returns the status, and the bytes the device says it
// wrote.
uint8_t request(RequestType type, uint64_t sector, uint32_t size, uint32_t* written = nullptr) {
  header = {type, 0, sector};
  status = kNotWritten;
  const VirtioBuffer chain[3] = {
      {&header, sizeof(header), false},
      {sector_data, size, type != kWrite},
      {const_cast<const uint8_t*>(&status), 1, true},
  };
  const uint32_t used = block_queue.run(chain, 3);
  if (written != nullptr) *written = used;
  return status;
}

}  // namespace

void use_entropy(const VirtioTransport& transport) {
  static uint64_t first[4];
  static uint64_t second[4];
  entropy_queue.start(transport);
  for (uint64_t* numbers : {first, second}) {
    const VirtioBuffer buffer{numbers, sizeof(first), true};
    const uint32_t size = entropy_queue.run(&buffer, 1);
    check(size > 0 && size <= sizeof(first), "entropy: the used length is in range");
  }
  check((first[0] | first[1]) != 0, "entropy: not all zeros");
  check(first[0] != second[0], "entropy: two answers differ");
  print("entropy: two different answers\n");
}

void use_block(const VirtioTransport& transport) {
  block_queue.start(transport);
  const uint64_t sectors = transport.config32(0) | (uint64_t{transport.config32(4)} << 32);
  print("block: ", sectors, " sectors\n");

  uint32_t written = 0;
  check(request(kRead, 0, kSectorSize, &written) == kOk, "block: read of sector 0");
  check(written == kSectorSize + 1, "block: the used length is the sector and the status");
  print("block: sector 0 says \"");
  for (uint32_t i = 0; i < kSectorSize && sector_data[i] >= ' ' && sector_data[i] < 0x7F; ++i) {
    put(static_cast<char>(sector_data[i]));
  }
  print("\"\n");

  for (uint32_t i = 0; i < kSectorSize; ++i) sector_data[i] = static_cast<uint8_t>(i * 7);
  constexpr uint64_t kReadOnly = 1u << 5;  // 5.2.3; offered, not negotiated, and true all the same
  if ((transport.device_features() & kReadOnly) != 0) {
    check(request(kWrite, 1, kSectorSize) == kIoError, "block: a write to a read-only disk is an I/O error");
    print("block: read-only, a write is refused\n");
    return;
  }
  check(request(kWrite, 1, kSectorSize, &written) == kOk, "block: write of sector 1");
  check(written == 1, "block: a write returns only the status");
  __builtin_memset(sector_data, 0, sizeof(sector_data));
  check(request(kRead, 1, kSectorSize) == kOk, "block: read of sector 1");
  for (uint32_t i = 0; i < kSectorSize; ++i) {
    check(sector_data[i] == static_cast<uint8_t>(i * 7), "block: what was written is read back");
  }
  print("block: wrote sector 1 and read it back\n");

  constexpr uint32_t kIdSize = 20;
  __builtin_memset(sector_data, 0, kIdSize + 1);
  check(request(kGetId, 0, kIdSize) == kOk, "block: the serial number");
  print("block: serial ", reinterpret_cast<const char*>(sector_data), '\n');

  check(request(kRead, sectors, kSectorSize) == kIoError, "block: a read past the end is an I/O error");
  check(request(kRead, ~uint64_t{0} - 1, kSectorSize) == kIoError, "block: so is one whose sector wraps");
  check(request(kNoSuchType, 0, kSectorSize) == kUnsupported, "block: an unknown type is unsupported");
  check(request(kRead, 0, kSectorSize) == kOk, "block: the device works on after errors");
  print("block: bad requests are refused\n");
}

}  // namespace payload
