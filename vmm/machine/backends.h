// SPDX-License-Identifier: Apache-2.0
//
// What the devices talk to on the host: opened once, and kept when the machine restarts, so that an image
// stays locked and a terminal stays as it is.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "devices/backend/block.h"
#include "devices/backend/console.h"
#include "devices/backend/net.h"
#include "devices/backend/observed_console.h"
#include "devices/backend/terminal.h"
#include "devices/backend/vhost.h"
#include "devices/backend/vsock_host.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"
#include "vmm/machine/config.h"

namespace vmm {

struct Backends {
  std::vector<std::unique_ptr<backend::Block>> disks;   // as Config::disks
  std::vector<std::unique_ptr<backend::Net>> nets;      // as the configuration's networks
  std::vector<std::unique_ptr<backend::Vhost>> vhosts;  // of these; none: without
  std::unique_ptr<backend::ObservedConsole> serial;
  std::unique_ptr<backend::ObservedConsole> virtio_console;  // none: no such device
  backend::ObservedConsole* watched = nullptr;  // hvc0 if that is on the terminal, else the serial console
  std::unique_ptr<backend::VsockHost> vsock;    // none: no such device
  backend::Terminal* terminal = nullptr;        // whichever console is on the terminal

  // `heard` gets every byte of the watched console; `quit` is called when the user asks for the end (Ctrl-A
  // x). Both on any thread. `loop` does not run yet.
  static Result<Backends> open(const Config& config, EventLoop& loop,
                               const std::function<void(std::span<const std::byte>)>& heard,
                               const std::function<void()>& quit);
};

}  // namespace vmm
