// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/config_page.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "vmm/core/log.h"

namespace vmm::pci {
namespace {

// Behind the first 256 bytes there is nothing (config_space.h): the page is zero there.
constexpr uint16_t kCopied = 0x100;

}  // namespace

void ConfigPage::show(Function& function) {
  registers_ = &function.plain_registers([this] { hide(); });
  copy();
  if (shown_) return;
  if (const auto shown = pages_.show(at_, page_); !shown) {
    log(LogLevel::info, "PCI configuration at {:#x}: {}, each read is an exit", at_.raw,
        shown.error().message);
    return;
  }
  shown_ = true;
}

void ConfigPage::refresh() {
  if (shown_) copy();
}

void ConfigPage::hide() {
  if (shown_.exchange(false)) pages_.hide(at_);
}

// A guest that reads meanwhile sees each dword as it was or as it is.
void ConfigPage::copy() {
  const std::lock_guard lock{mutex_};
  for (uint16_t at = 0; at < kCopied; at += 4) {
    std::array<std::byte, 4> bytes{};
    registers_->read_config(at, bytes);
    uint32_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    const std::atomic_ref shown{*reinterpret_cast<uint32_t*>(page_.data() + at)};
    if (shown.load(std::memory_order_relaxed) != value) shown.store(value, std::memory_order_relaxed);
  }
}

}  // namespace vmm::pci
