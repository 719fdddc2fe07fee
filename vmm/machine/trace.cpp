// SPDX-License-Identifier: Apache-2.0
//
// Format: "Trace Event Format", Google, sections "JSON Array Format", "Complete Events", "Instant Events" and
// "Metadata Events". Times are microseconds.
#include "vmm/machine/trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>

#include <fmt/format.h>

#include "vmm/core/log.h"

namespace vmm {
namespace {

constexpr size_t kBuffer = 64 << 10;      // bytes, per track
constexpr size_t kLongestEvent = 1 << 9;  // bytes; names are our own and short
constexpr uint32_t kMarksTrack = 1'000'000;

}  // namespace

Result<std::unique_ptr<Trace>> Trace::create(const std::filesystem::path& path, Clock::time_point begin) {
  Fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (!file) return fail(errno, "open {} for the trace", path.string());
  std::unique_ptr<Trace> trace{new Trace{path.string(), std::move(file), begin}};
  trace->write("[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"vmm\"}}");
  return trace;
}

Trace::~Trace() {
  write("\n]\n");
}

void Trace::instant(std::string_view name, Clock::time_point at) {
  write(fmt::format(",\n{{\"name\":\"{}\",\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":{},\"ts\":{:.3f}}}",
                    name, kMarksTrack, microseconds(at)));
}

void Trace::write(std::string_view events) {
  const std::lock_guard lock{mutex_};
  while (file_ && !events.empty()) {
    const auto written = ::write(file_.get(), events.data(), events.size());
    if (written >= 0) {
      events.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      log(LogLevel::error, "trace {}: {}, the rest of the run is not traced", path_, std::strerror(errno));
      file_ = Fd{};
    }
  }
}

Trace::Track::Track(Trace& trace, uint32_t id, std::string_view name) : trace_(trace), id_(id) {
  buffer_.reserve(kBuffer + kLongestEvent);
  fmt::format_to(
      std::back_inserter(buffer_),
      ",\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":{},\"args\":{{\"name\":\"{}\"}}}}", id_,
      name);
}

void Trace::Track::slice(const Access& access, Clock::time_point begin, Clock::time_point end) {
  fmt::format_to(
      std::back_inserter(buffer_),
      ",\n{{\"name\":\"{} {} {:#x}\",\"cat\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3f},"
      "\"dur\":{:.3f},\"args\":{{\"address\":\"{:#x}\",\"value\":\"{:#x}\",\"size\":{},\"count\":{}}}}}",
      access.device, access.write ? "write" : "read", access.offset, access.space, id_,
      trace_.microseconds(begin), std::chrono::duration<double, std::micro>(end - begin).count(),
      access.address, access.value, access.size, access.count);
  flush_when_full();
}

void Trace::Track::slice(std::string_view name, Clock::time_point begin, Clock::time_point end) {
  fmt::format_to(std::back_inserter(buffer_),
                 ",\n{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f}}}",
                 name, id_, trace_.microseconds(begin),
                 std::chrono::duration<double, std::micro>(end - begin).count());
  flush_when_full();
}

void Trace::Track::flush_when_full() {
  if (buffer_.size() >= kBuffer) flush();
}

void Trace::Track::flush() {
  trace_.write(buffer_);
  buffer_.clear();
}

}  // namespace vmm
