// SPDX-License-Identifier: Apache-2.0
//
// What can be asked of a machine while it runs, and where its control socket is. The language on the socket
// is the command line's affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "devices/virtio/balloon.h"
#include "vmm/core/result.h"
#include "vmm/machine/config.h"
#include "vmm/machine/line_server.h"
#include "vmm/machine/receipt.h"

namespace vmm {

// The guest's memory as host and guest see it.
struct MemoryReport {
  uint64_t size = 0;     // bytes the machine has
  uint64_t target = 0;   // bytes the guest is asked to keep
  uint64_t balloon = 0;  // bytes it says that it gave
  bool driver = false;   // whether the guest has a balloon driver
  std::optional<virtio::Balloon::Statistics> guest;
};

// On the main thread.
class Controls {
 public:
  virtual ~Controls() = default;

  [[nodiscard]] virtual Receipt receipt_so_far() const = 0;
  // Asks the guest, which has half a second to answer: then `done` is called without its statistics.
  virtual void ask_memory(std::function<void(const MemoryReport&)> done) = 0;
  // Asks the guest to keep `bytes` and give back the rest. It does so when and as far as it can; a restarted
  // guest is asked again.
  virtual Result<void> set_memory(uint64_t bytes) = 0;
  // Makes a disk, named as by find_disk(), `bytes` large, and tells the guest. The image grows with it, by a
  // hole; a block device has that size already. Fails for less than the disk has, and if it is read-only.
  virtual Result<void> resize_disk(std::string_view disk, uint64_t bytes) = 0;
  virtual Result<void> press_power_button() = 0;
  virtual void quit(std::string_view who) = 0;
};

// Answers one request of a client of the control socket.
using ControlProtocol =
    std::function<void(Controls& controls, std::string_view request, const LineServer::Answer& answer)>;

// Which of a machine's `count` disks is called `name`: as Linux calls them, vda is the first, and vdaa comes
// after vdz.
Result<size_t> find_disk(std::string_view name, size_t count);

// Where the control socket of the machine called `id` is: $XDG_RUNTIME_DIR/vmm/ID; for root without such a
// variable /run/vmm/ID. An id has 1 to 64 letters, digits, dots, dashes and underscores, and begins with
// none of the last three.
Result<std::filesystem::path> control_path(std::string_view id);

// The same for the machine that runs here: --control, or --id, whose folder is made; empty without both.
Result<std::filesystem::path> make_control_path(const Config& config);

}  // namespace vmm
