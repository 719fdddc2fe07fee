// SPDX-License-Identifier: Apache-2.0
//
// A copy of one function's configuration space in a page that the guest reads without an exit (ECAM only).
// Writes come to the function as ever; the copy is brought up to date before a write is over. A function
// whose registers begin to change by themselves, or to do something when read, calls the page back and is
// read by exits from then on.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <span>

#include "devices/pci/function.h"
#include "vmm/core/readable_pages.h"
#include "vmm/core/types.h"

namespace vmm::pci {

class ConfigPage {
 public:
  // `page` is 4 KiB on a page boundary, zero.
  ConfigPage(ReadablePages& pages, Gpa at, std::span<std::byte> page) : pages_(pages), at_(at), page_(page) {}
  ~ConfigPage() { hide(); }
  ConfigPage(const ConfigPage&) = delete;
  ConfigPage& operator=(const ConfigPage&) = delete;

  void show(Function& function);  // no vCPU runs
  void refresh();                 // after a write; any vCPU thread
  void hide();                    // any thread, under any lock of the function

 private:
  void copy();

  ReadablePages& pages_;
  const Gpa at_;
  const std::span<std::byte> page_;
  Function* registers_ = nullptr;   // fixed before the vCPUs run
  std::atomic<bool> shown_{false};  // not guarded: hide() is called under locks that copy() takes
  std::mutex mutex_;                // guards page_ against another writer, not against the guest
};

}  // namespace vmm::pci
