// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/file_console.h"

#include <fcntl.h>

#include <cerrno>

namespace vmm::backend {

Result<std::unique_ptr<FileConsole>> FileConsole::create(EventLoop& loop, const std::filesystem::path& path) {
  ignore_broken_pipes();
  // O_NONBLOCK also keeps a pipe without a reader from holding us here for ever.
  Fd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644)};
  if (!fd && errno == ENXIO) {
    return fail("open console file {}: nobody reads from this pipe; start its reader first", path.native());
  }
  if (!fd) return fail(errno, "open console file {}", path.native());
  std::unique_ptr<FileConsole> console{new FileConsole{loop}};
  console->output_.attach(StreamFd::adopt(std::move(fd)));
  return console;
}

}  // namespace vmm::backend
