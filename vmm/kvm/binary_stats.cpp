// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/binary_stats.h"

#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "vmm/kvm/abi.h"

namespace vmm::kvm {
namespace {

bool read_at(const Fd& fd, uint64_t offset, void* to, size_t size) {
  return ::pread(fd.get(), to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

}  // namespace

std::vector<Statistic> read_statistics(const Fd& stats) {
  std::vector<Statistic> all;
  kvm_stats_header header{};
  constexpr uint32_t kMost = 4096;
  if (!stats || !read_at(stats, 0, &header, sizeof header)) return all;
  if (header.num_desc > kMost || header.name_size == 0 || header.name_size > 256) return all;

  const size_t stride = sizeof(kvm_stats_desc) + header.name_size;
  std::vector<char> raw(stride);
  for (uint32_t i = 0; i < header.num_desc; ++i) {
    kvm_stats_desc description{};
    uint64_t value = 0;
    if (!read_at(stats, header.desc_offset + i * stride, raw.data(), stride)) break;
    std::memcpy(&description, raw.data(), sizeof description);
    const uint32_t type = description.flags & KVM_STATS_TYPE_MASK;
    if (type > KVM_STATS_TYPE_PEAK) continue;
    if (!read_at(stats, header.data_offset + description.offset, &value, sizeof value)) break;
    const char* name = raw.data() + offsetof(kvm_stats_desc, name);
    all.push_back(
        {std::string{name, ::strnlen(name, header.name_size)}, value, type == KVM_STATS_TYPE_CUMULATIVE});
  }
  return all;
}

}  // namespace vmm::kvm
