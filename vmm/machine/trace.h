// SPDX-License-Identifier: Apache-2.0
//
// --trace: every exit to user space as a line of a file, in the "JSON array format" of Chrome's trace events,
// which Perfetto (ui.perfetto.dev) and chrome://tracing open. One track per vCPU: a slice is the time that
// the VMM spent on an exit, named by device, direction and register; what lies between two slices is the
// guest, and exits that KVM handled itself. Marks of the guest are instants on a track of their own.
//
// The file is written as the guest runs, from a buffer of fixed size per track, so that a trace may be long
// and a killed VMM leaves a readable one: the format lets the closing bracket be missing.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm {

class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  // One access of a vCPU to a device.
  struct Access {
    std::string_view space;   // "port" or "mmio"
    std::string_view device;  // as the bus names it
    bool write = false;
    uint64_t address = 0;
    uint64_t offset = 0;  // of `address` in the device's range
    uint64_t value = 0;   // of the first item
    uint32_t size = 0;    // bytes of an item
    uint64_t count = 1;   // items of a string instruction
  };

  // The events of one thread, which alone calls all but the constructor.
  class Track {
   public:
    Track(Trace& trace, uint32_t id, std::string_view name);
    ~Track() { flush(); }
    Track(const Track&) = delete;
    Track& operator=(const Track&) = delete;

    void slice(const Access& access, Clock::time_point begin, Clock::time_point end);
    void slice(std::string_view name, Clock::time_point begin, Clock::time_point end);

   private:
    void flush();
    void flush_when_full();
    Trace& trace_;
    const uint32_t id_;
    std::string buffer_;  // whole events
  };

  // `begin` is the zero of the times.
  static Result<std::unique_ptr<Trace>> create(const std::filesystem::path& path, Clock::time_point begin);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  void instant(std::string_view name, Clock::time_point at);  // any thread

 private:
  Trace(std::string path, Fd file, Clock::time_point begin)
      : path_(std::move(path)), begin_(begin), file_(std::move(file)) {}
  void write(std::string_view events);
  [[nodiscard]] double microseconds(Clock::time_point at) const {
    return std::chrono::duration<double, std::micro>(at - begin_).count();
  }

  const std::string path_;
  const Clock::time_point begin_;
  std::mutex mutex_;
  Fd file_;  // guarded by mutex_; closed when a write failed: the rest is not written
};

}  // namespace vmm
