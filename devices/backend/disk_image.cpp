// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/disk_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>

#include "devices/backend/disk_operation.h"
#include "vmm/core/log.h"

namespace vmm::backend {
namespace {

constexpr uint64_t kSector = 512;

tl::unexpected<Error> refuse(const std::string& path, int code, std::string_view fault,
                             std::string_view remedy) {
  return tl::unexpected(Error{fmt::format("disk {}: {}; {}", path, fault, remedy), code});
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "is a directory";
  if (S_ISFIFO(mode)) return "is a FIFO";
  if (S_ISCHR(mode)) return "is a character device";
  if (S_ISSOCK(mode)) return "is a socket";
  return "is no file";
}

Result<void> check_kind(const std::string& path, mode_t mode) {
  if (S_ISREG(mode) || S_ISBLK(mode)) return {};
  return refuse(path, 0, kind_of(mode),
                S_ISDIR(mode) ? "give a raw image (mke2fs -d makes one of a directory)"
                              : "give a raw image or a block device");
}

tl::unexpected<Error> explain_open(const std::string& path, int code, DiskImage::Access access) {
  const auto fault = std::generic_category().message(code);
  const bool writing = access == DiskImage::Access::read_write;
  switch (code) {
    case ENOENT:
      return refuse(path, code, fault, fmt::format("to make an empty disk: truncate -s 4G {}", path));
    case EROFS:
      return refuse(path, code, fault, "use it read-only by appending ,ro");
    case EBUSY:
      return refuse(path, code, "the host uses this device",
                    "unmount it first, or use it read-only by appending ,ro");
    case EACCES:
    case EPERM:
      if (writing && ::access(path.c_str(), R_OK) == 0) {
        return refuse(path, code, "no permission to write it",
                      "use it read-only by appending ,ro, or chmod u+w it");
      }
      return refuse(path, code, fault, "give your user the right to read and write it, or join its group");
    default:
      return tl::unexpected(Error{fmt::format("disk {}: {}", path, fault), code});
  }
}

Result<void> lock_image(const Fd& fd, const std::string& path, DiskImage::Access access) {
  const bool writing = access == DiskImage::Access::read_write;
  struct flock whole{};
  whole.l_type = writing ? F_WRLCK : F_RDLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd.get(), F_OFD_SETLK, &whole) == 0) return {};
  const int code = errno;
  if (code == EAGAIN || code == EACCES) {
    return writing ? refuse(path, code, "another program uses it (another machine?)",
                            "stop that one, or give both of them the disk read-only by appending ,ro")
                   : refuse(path, code, "another program writes to it (another machine?)",
                            "stop that one, or use a copy of the image");
  }
  log(LogLevel::warning, "disk {}: not locked ({}), see to it that nobody else writes to it", path,
      std::generic_category().message(code));
  return {};
}

// Some read-only devices can be opened for writing, and fail only the writes.
Result<void> check_writable(const Fd& fd, const std::string& path, mode_t mode) {
  int read_only = 0;
  if (!S_ISBLK(mode) || ::ioctl(fd.get(), BLKROGET, &read_only) != 0 || read_only == 0) return {};
  return refuse(path, EROFS, "this device is read-only", "use it so by appending ,ro");
}

Result<uint64_t> size_of(const Fd& fd, const std::string& path, const struct stat& status) {
  uint64_t size = static_cast<uint64_t>(status.st_size);
  if (S_ISBLK(status.st_mode) && ::ioctl(fd.get(), BLKGETSIZE64, &size) != 0) {
    return fail(errno, "disk {}: ask for its size", path);
  }
  if (size == 0) {
    return refuse(path, 0, "is empty",
                  S_ISBLK(status.st_mode) ? "attach something to this device"
                                          : fmt::format("to give it a size: truncate -s 4G {}", path));
  }
  if (size % kSector != 0) {
    return refuse(path, 0, fmt::format("its size, {} bytes, is not a multiple of {}", size, kSector),
                  fmt::format("to round it up: truncate -s %{} {}", kSector, path));
  }
  return size;
}

uint32_t block_size_of(const Fd& fd, const struct stat& status) {
  unsigned size = static_cast<unsigned>(status.st_blksize);
  if (S_ISBLK(status.st_mode) && ::ioctl(fd.get(), BLKPBSZGET, &size) != 0) return kSector;
  return std::has_single_bit(size) ? std::clamp<uint32_t>(size, kSector, 4096) : kSector;
}

// Behind the end there is nothing to lose, so the question can be put to the file system itself. A block
// device answers only for real blocks: it is asked for its queue's limit.
bool discards(const Fd& fd, const struct stat& status, uint64_t size) {
  if (S_ISBLK(status.st_mode)) {
    const auto name = fmt::format("/sys/dev/block/{}:{}/queue/discard_max_bytes", major(status.st_rdev),
                                  minor(status.st_rdev));
    const Fd limit{::open(name.c_str(), O_RDONLY | O_CLOEXEC)};
    char first = '0';
    return limit && ::read(limit.get(), &first, 1) == 1 && first != '0';
  }
  const auto behind = static_cast<off_t>((size + 4095) / 4096 * 4096);
  return ::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, behind, 4096) == 0;
}

}  // namespace

Result<std::unique_ptr<DiskImage>> DiskImage::open(const std::string& path, Access access, Cache cache) {
  // Looked at before it is opened: opening a FIFO waits, opening a character device may do anything.
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return explain_open(path, errno, access);
  VMM_TRY(check_kind(path, status.st_mode));

  const bool writing = access == Access::read_write;
  // Without O_CREAT, O_EXCL on a block device means: not while it is mounted (open(2)).
  const int exclusive = writing && S_ISBLK(status.st_mode) ? O_EXCL : 0;
  Fd fd{::open(path.c_str(), (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC | exclusive)};
  if (!fd) return explain_open(path, errno, access);
  if (::fstat(fd.get(), &status) != 0) return fail(errno, "disk {}", path);
  VMM_TRY(check_kind(path, status.st_mode));
  if (writing) VMM_TRY(check_writable(fd, path, status.st_mode));
  VMM_TRY(lock_image(fd, path, access));
  VMM_TRY_ASSIGN(const uint64_t size, size_of(fd, path, status));
  std::optional<Direct> direct;
  if (cache == Cache::direct) {
    VMM_TRY_ASSIGN(direct, open_direct(path, access, fd));
  }
  const uint32_t block_size =
      std::max(block_size_of(fd, status), direct ? direct->offset_alignment : uint32_t{kSector});
  const bool can_discard = writing && discards(fd, status, size);
  return std::unique_ptr<DiskImage>{
      new DiskImage{path, std::move(fd), std::move(direct), access, size, block_size, can_discard}};
}

// Opened a second time, by the descriptor that is known to be the right file.
Result<DiskImage::Direct> DiskImage::open_direct(const std::string& path, Access access, const Fd& known) {
  constexpr std::string_view kRemedy = "leave out ,direct";
  const auto self = fmt::format("/proc/self/fd/{}", known.get());
  Direct direct{.fd = Fd{::open(self.c_str(),
                                (access == Access::read_write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_DIRECT)}};
  if (!direct.fd && errno == EINVAL)
    return refuse(path, EINVAL, "its file system does no direct I/O", kRemedy);
  if (!direct.fd)
    return refuse(path, errno, "open it for direct I/O: " + std::generic_category().message(errno), kRemedy);

  struct statx asked{};
  if (::statx(direct.fd.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &asked) == 0 &&
      (asked.stx_mask & STATX_DIOALIGN) != 0) {  // since Linux 6.1
    if (asked.stx_dio_offset_align == 0) {
      return refuse(path, EINVAL, "its file system does no direct I/O", kRemedy);
    }
    direct.memory_alignment = std::max(asked.stx_dio_mem_align, 1U);
    direct.offset_alignment = std::max<uint32_t>(asked.stx_dio_offset_align, kSector);
  } else {
    int sector = 0;
    if (::ioctl(direct.fd.get(), BLKSSZGET, &sector) != 0) sector = 4096;  // no file system takes more
    direct.memory_alignment = direct.offset_alignment = static_cast<uint32_t>(sector);
  }
  if (!std::has_single_bit(direct.offset_alignment) || !std::has_single_bit(direct.memory_alignment) ||
      direct.offset_alignment > 4096) {
    return refuse(path, EINVAL,
                  fmt::format("direct I/O takes blocks of {} bytes here", direct.offset_alignment), kRemedy);
  }
  return direct;
}

DiskImage::DiskImage(std::string path, Fd fd, std::optional<Direct> direct, Access access, uint64_t size,
                     uint32_t block_size, bool can_discard)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      direct_(std::move(direct)),
      access_(access),
      size_(size),
      block_size_(block_size),
      can_discard_(can_discard) {}

Result<void> DiskImage::resize(uint64_t bytes) {
  const uint64_t now = size();
  if (read_only()) return refuse(path_, EROFS, "it is read-only", "give it to a machine without ,ro");
  if (bytes % kSector != 0 || bytes > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return refuse(path_, EINVAL, fmt::format("{} bytes are no size of a disk", bytes),
                  "give a multiple of 512 bytes");
  }
  if (bytes < now) {
    return refuse(path_, EINVAL, fmt::format("{} bytes of its {} would cut off data", bytes, now),
                  "copy what is in it to a smaller disk");
  }
  struct stat status{};
  if (::fstat(fd_.get(), &status) != 0) return fail(errno, "disk {}", path_);
  if (S_ISBLK(status.st_mode)) {
    uint64_t device = 0;
    if (::ioctl(fd_.get(), BLKGETSIZE64, &device) != 0)
      return fail(errno, "disk {}: ask for its size", path_);
    if (device != bytes) {
      return refuse(path_, EINVAL, fmt::format("the device has {} bytes, not {}", device, bytes),
                    "change the device's size first, or give the one it has");
    }
  } else if (static_cast<uint64_t>(status.st_size) < bytes &&
             ::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) {
    return fail(errno, "disk {}: make it {} bytes", path_, bytes);
  }
  size_.store(bytes);
  return {};
}

// Direct I/O is for what is aligned (open(2)), and moves data.
int DiskImage::fd_for(const BlockRequest& request) const {
  if (!direct_ || request.buffers.empty()) return fd_.get();
  uint64_t places = request.offset | request.length;
  uint64_t addresses = 0;
  for (const auto& buffer : request.buffers) {
    places |= buffer.iov_len;
    addresses |= reinterpret_cast<uintptr_t>(buffer.iov_base);
  }
  const bool aligned = places % direct_->offset_alignment == 0 && addresses % direct_->memory_alignment == 0;
  return aligned ? direct_->fd.get() : fd_.get();
}

Result<std::unique_ptr<BlockChannel>> DiskImage::open_channel(EventLoop& loop) {
  class Channel final : public BlockChannel {
   public:
    Channel(const DiskImage& disk, EventLoop& loop) : disk_(disk), loop_(loop) {}
    void submit(const BlockRequest& request, IoCompletion& completion) override {
      assert(request.offset <= disk_.size() && request.length <= disk_.size() - request.offset);
      operations_.take().start(disk_.fd_for(request), loop_, request, completion);
    }
    void cancel() override { operations_.cancel(); }

   private:
    const DiskImage& disk_;
    EventLoop& loop_;
    DiskOperations operations_;
  };
  return std::make_unique<Channel>(*this, loop);
}

}  // namespace vmm::backend
