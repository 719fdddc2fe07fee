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

Result<void> open_net(const NetConfig& config, Backends& backends) {
  std::unique_ptr<backend::Vhost> vhost;
  if (const auto* wanted = std::get_if<TapNetConfig>(&config.backend)) {
    VMM_TRY_ASSIGN(auto tap, backend::Tap::create(wanted->name, wanted->queues));
    if (wanted->vhost) {
      VMM_TRY_ASSIGN(vhost, backend::Vhost::open(tap->fd()));
    }
    backends.nets.push_back(std::move(tap));
  } else {
    backend::UserNet::Config user;
    user.forwards = std::get<UserNetConfig>(config.backend).forwards;
    VMM_TRY_ASSIGN(auto net, backend::UserNet::create(user));
    backends.nets.push_back(std::move(net));
  }
  backends.vhosts.push_back(std::move(vhost));
  return {};
}

}  // namespace

Result<Backends> Backends::open(const Config& config, EventLoop& loop,
                                const std::function<void(std::span<const std::byte>)>& heard,
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
    if (rates.unlimited()) {
      backends.disks.push_back(std::move(image));
    } else {
      backends.disks.push_back(std::make_unique<backend::ThrottledBlock>(std::move(image), rates));
    }
  }
  for (const auto& net : networks(config)) VMM_TRY(open_net(net, backends));
  const auto unheard = [](std::span<const std::byte>) {};
  const bool on_hvc0 = config.virtio_console.kind == ConsoleConfig::Kind::stdio;
  VMM_TRY_ASSIGN(auto serial, open_console(config.console, loop, quit, backends.terminal));
  backends.serial = std::make_unique<backend::ObservedConsole>(
      loop, std::move(serial), on_hvc0 ? backend::ObservedConsole::Observer{unheard} : heard);
  backends.watched = backends.serial.get();
  if (config.virtio_console.kind != ConsoleConfig::Kind::none) {
    VMM_TRY_ASSIGN(auto console, open_console(config.virtio_console, loop, quit, backends.terminal));
    backends.virtio_console = std::make_unique<backend::ObservedConsole>(
        loop, std::move(console), on_hvc0 ? heard : backend::ObservedConsole::Observer{unheard});
    if (on_hvc0) backends.watched = backends.virtio_console.get();
  }
  if (config.vsock) {
    VMM_TRY_ASSIGN(backends.vsock, backend::VsockHost::create(loop, config.vsock->path));
  }
  return backends;
}

}  // namespace vmm
