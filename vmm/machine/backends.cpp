// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/backends.h"

#include "devices/backend/disk_image.h"
#include "devices/backend/file_console.h"
#include "devices/backend/socket_console.h"
#include "devices/backend/tap.h"
#include "devices/backend/throttled_block.h"
#include "devices/backend/user_net.h"

namespace vmm {
namespace {

Result<std::unique_ptr<backend::Console>> open_console(const ConsoleConfig& config, EventLoop& loop,
                                                       const std::function<void()>& quit,
                                                       backend::Terminal*& terminal) {
  switch (config.kind) {
    case ConsoleConfig::Kind::stdio: {
      VMM_TRY_ASSIGN(auto console, backend::Terminal::create(loop, quit));
      terminal = console.get();
      return console;
    }
    case ConsoleConfig::Kind::file:
      return backend::FileConsole::create(loop, config.path);
    case ConsoleConfig::Kind::socket:
      return backend::SocketConsole::create(loop, config.path);
    case ConsoleConfig::Kind::none:
      break;
  }
  return std::make_unique<backend::NullConsole>();
}

Result<std::unique_ptr<backend::Net>> open_net(const NetConfig& config) {
  if (const auto* tap = std::get_if<TapNetConfig>(&config.backend)) return backend::Tap::create(tap->name);
  backend::UserNet::Config user;
  user.forwards = std::get<UserNetConfig>(config.backend).forwards;
  return backend::UserNet::create(user);
}

}  // namespace

Result<Backends> Backends::open(const Config& config, EventLoop& loop,
                                std::function<void(std::span<const std::byte>)> heard,
                                const std::function<void()>& quit) {
  using Access = backend::DiskImage::Access;
  Backends backends;
  for (const auto& disk : config.disks) {
    using Cache = backend::DiskImage::Cache;
    VMM_TRY_ASSIGN(
        auto image,
        backend::DiskImage::open(disk.file.string(), disk.read_only ? Access::read_only : Access::read_write,
                                 disk.direct ? Cache::direct : Cache::host));
    const backend::RateLimit::Rates rates{.bytes = disk.bytes_per_second,
                                          .operations = disk.requests_per_second};
    if (rates.any()) {
      backends.disks.push_back(std::move(image));
    } else {
      backends.disks.push_back(std::make_unique<backend::ThrottledBlock>(std::move(image), rates));
    }
  }
  for (const auto& net : networks(config)) {
    VMM_TRY_ASSIGN(auto opened, open_net(net));
    backends.nets.push_back(std::move(opened));
  }
  VMM_TRY_ASSIGN(auto serial, open_console(config.console, loop, quit, backends.terminal));
  backends.serial = std::make_unique<backend::ObservedConsole>(loop, std::move(serial), std::move(heard));
  if (config.virtio_console.kind != ConsoleConfig::Kind::none) {
    VMM_TRY_ASSIGN(backends.virtio_console,
                   open_console(config.virtio_console, loop, quit, backends.terminal));
  }
  return backends;
}

}  // namespace vmm
