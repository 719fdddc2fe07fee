// SPDX-License-Identifier: Apache-2.0
#include "firmware/relocations.h"

#include <algorithm>
#include <array>

namespace vmm::firmware {
namespace {

// Sign-extended, as the kernel's addresses are: its text is in the highest 2 GiB.
constexpr uint64_t full_address(uint32_t place) {
  return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(place)));
}

// Whether all places of a list are inside.
template <typename T>
Result<void> check_list(std::span<const uint32_t> list, uint64_t size, uint64_t virtual_base,
                        std::string_view name) {
  for (const uint32_t place : list) {
    const uint64_t offset = full_address(place) - virtual_base;  // wraps where it lies before the image
    if (offset > size || sizeof(T) > size - offset) {
      return fail("{}: its relocation of {:#x} is outside of the kernel", name, full_address(place));
    }
  }
  return {};
}

template <typename T>
void apply_list(std::span<const uint32_t> list, const GuestSlice& image, uint64_t virtual_base, T slide) {
  for (const uint32_t place : list) {
    const auto offset = static_cast<size_t>(full_address(place) - virtual_base);
    image.store(offset, static_cast<T>(image.load<T>(offset) + slide));
  }
}

}  // namespace

std::optional<Relocations> Relocations::parse(std::span<const uint32_t> table) {
  if (table.size_bytes() > kMostRelocationBytes || table.empty() || table.front() != 0) return std::nullopt;
  std::array<std::span<const uint32_t>, 3> lists;
  size_t count = 0;
  while (!table.empty()) {
    if (count == lists.size()) return std::nullopt;
    table = table.subspan(1);
    const auto end = std::ranges::find(table, 0U);
    const auto length = static_cast<size_t>(end - table.begin());
    lists[count++] = table.first(length);
    table = table.subspan(length);
  }
  if (count == 2) return Relocations{.add64 = lists[0], .subtract32 = {}, .add32 = lists[1]};
  if (count == 3) return Relocations{.add64 = lists[0], .subtract32 = lists[1], .add32 = lists[2]};
  return std::nullopt;
}

Result<void> Relocations::apply(const GuestSlice& image, uint64_t virtual_base, uint64_t slide,
                                std::string_view name) const {
  VMM_TRY(check_list<uint64_t>(add64, image.size(), virtual_base, name));
  VMM_TRY(check_list<uint32_t>(subtract32, image.size(), virtual_base, name));
  VMM_TRY(check_list<uint32_t>(add32, image.size(), virtual_base, name));
  const auto slide32 = static_cast<uint32_t>(slide);
  apply_list<uint64_t>(add64, image, virtual_base, slide);
  apply_list<uint32_t>(subtract32, image, virtual_base, 0U - slide32);
  apply_list<uint32_t>(add32, image, virtual_base, slide32);
  return {};
}

}  // namespace vmm::firmware
