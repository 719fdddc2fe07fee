// SPDX-License-Identifier: Apache-2.0
#include "firmware/kernel_image.h"

#include <algorithm>
#include <cassert>

#include "firmware/wire.h"
#include "vmm/core/guest_pages.h"

namespace vmm::firmware {

std::vector<PageRun> filled_pages(const ElfImage& image, const GuestMemory& memory) {
  auto by_address = image.segments;
  std::ranges::sort(by_address, {}, &ElfImage::Segment::base);
  const uint64_t base = image.lowest().raw;
  assert(base % kPageSize == 0);
  std::vector<PageRun> filled;
  uint64_t next = base;  // pages below it have been looked at: segments may share one
  for (const auto& segment : by_address) {
    const uint64_t end = align_up(segment.base.raw + segment.file_size, kPageSize);
    next = std::max(next, align_down(segment.base.raw, kPageSize));
    for (; next < end; next += kPageSize) {
      const auto page = memory.slice(Gpa{next}, kPageSize);
      assert(page.has_value());
      if (is_zero(*page)) continue;
      const uint64_t offset = next - base;
      if (!filled.empty() && filled.back().offset + filled.back().size == offset) {
        filled.back().size += kPageSize;
      } else {
        filled.push_back({offset, kPageSize});
      }
    }
  }
  return filled;
}

}  // namespace vmm::firmware
