// SPDX-License-Identifier: Apache-2.0
#include "firmware/kaslr.h"

#include <algorithm>
#include <cassert>

#include "firmware/wire.h"

namespace vmm::firmware {
namespace {

constexpr uint64_t kKernelImageSize = 1ULL << 30;  // with CONFIG_RANDOMIZE_BASE
constexpr uint64_t kHighestMinimum = 512ULL << 20;
constexpr uint64_t kFourGiB = 1ULL << 32;

// The places for the kernel in one range.
struct Places {
  uint64_t first = 0;
  uint64_t count = 0;
};

Places places_in(const MemoryRange& range, const KaslrRequest& request) {
  const uint64_t least = std::max(range.base.raw, std::min(request.linked.raw, kHighestMinimum));
  const uint64_t first = align_up(least, request.alignment);
  const uint64_t end = std::min({range.base.raw + range.size, request.ceiling.raw, kFourGiB});
  if (range.type != MemoryType::ram || first >= end || request.room > end - first) return {};
  return {first, (end - first - request.room) / request.alignment + 1};
}

}  // namespace

std::optional<Gpa> choose_base(std::span<const MemoryRange> map, const KaslrRequest& request,
                               uint64_t random) {
  assert(request.alignment >= (2U << 20) && (request.alignment & (request.alignment - 1)) == 0);
  uint64_t count = 0;
  for (const auto& range : map) count += places_in(range, request).count;
  if (count == 0) return std::nullopt;
  uint64_t choice = random % count;
  for (const auto& range : map) {
    const Places places = places_in(range, request);
    if (choice < places.count) return Gpa{places.first + choice * request.alignment};
    choice -= places.count;
  }
  return std::nullopt;
}

uint64_t choose_slide(const KaslrRequest& request, uint64_t random) {
  const uint64_t linked = request.linked.raw;
  if (linked >= kKernelImageSize || request.room > kKernelImageSize - linked) return 0;
  const uint64_t count = (kKernelImageSize - linked - request.room) / request.alignment + 1;
  return random % count * request.alignment;
}

KaslrWish read_kaslr_wish(std::string_view command_line) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  KaslrWish wish;
  while (!command_line.empty()) {
    const size_t end = std::min(command_line.find_first_of(kSpace), command_line.size());
    const auto word = command_line.substr(0, end);
    if (word == "nokaslr") wish.any = false;
    if (word.starts_with("mem=") || word.starts_with("memmap=")) wish.physical = false;
    command_line.remove_prefix(std::min(end + 1, command_line.size()));
  }
  return wish;
}

}  // namespace vmm::firmware
