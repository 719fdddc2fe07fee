// SPDX-License-Identifier: Apache-2.0
//
// Consoles without a reader at the other end: one that writes to a file, and one that writes nowhere.
#pragma once

#include <filesystem>
#include <memory>

#include "devices/backend/console.h"
#include "devices/backend/output_stream.h"

namespace vmm::backend {

// Output to a file, from its beginning; a pipe with a reader or a serial port will do. There is no input.
class FileConsole final : public Console {
 public:
  static Result<std::unique_ptr<FileConsole>> create(EventLoop& loop, const std::filesystem::path& path);

  void write(std::span<const std::byte> bytes) override { output_.write(bytes); }
  void set_input(Input) override {}
  void resume() override {}
  [[nodiscard]] WindowSize window() const override { return {}; }
  void set_resize(std::function<void(WindowSize)>) override {}
  [[nodiscard]] uint64_t dropped() const override { return output_.dropped(); }

 private:
  explicit FileConsole(EventLoop& loop) : output_(loop) {}
  OutputStream output_;
};

class NullConsole final : public Console {
 public:
  void write(std::span<const std::byte>) override {}
  void set_input(Input) override {}
  void resume() override {}
  [[nodiscard]] WindowSize window() const override { return {}; }
  void set_resize(std::function<void(WindowSize)>) override {}
  [[nodiscard]] uint64_t dropped() const override { return 0; }  // nobody was to take them
};

}  // namespace vmm::backend
