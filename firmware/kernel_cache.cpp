// SPDX-License-Identifier: Apache-2.0
#include "firmware/kernel_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>

#include "firmware/boot_layout.h"
#include "firmware/byte_stream.h"
#include "firmware/relocations.h"
#include "firmware/wire.h"
#include "vmm/core/log.h"

namespace vmm::firmware {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMagic = 0x315f6c6e724b6d76;  // "vmKrnl_1": another layout gets another number
constexpr size_t kMostLinks = 8 * KernelCache::kMostEntries;
constexpr uint64_t kMostRuns = 4096;
constexpr uint64_t kMostImage = 1ULL << 30;  // KERNEL_IMAGE_SIZE
constexpr std::string_view kEntryPrefix = "blake2b-";
constexpr std::string_view kLinkPrefix = "file-";
constexpr std::string_view kTemporaryPrefix = "new-";

// An entry: this, then the runs, then from the next page on the pages, then the relocations to the end.
struct Header {
  uint64_t magic = kMagic;
  uint64_t file_size = 0;
  uint64_t linked = 0;
  uint64_t virtual_base = 0;
  uint64_t size = 0;
  uint64_t entry = 0;
  uint64_t runs = 0;
  uint64_t relocations = 0;  // words
};
static_assert(sizeof(Header) == 64 && std::is_trivially_copyable_v<PageRun> && sizeof(PageRun) == 16);

uint64_t pages_begin(uint64_t runs) {
  return align_up(sizeof(Header) + runs * sizeof(PageRun), kPageSize);
}

// Whether only this user can have written it.
bool is_ours(const struct stat& status) {
  return status.st_uid == ::geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool read_exactly(int fd, uint64_t offset, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    to = to.subspan(static_cast<size_t>(got));
  }
  return true;
}

bool write_exactly(int fd, uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t put = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    offset += static_cast<uint64_t>(put);
    from = from.subspan(static_cast<size_t>(put));
  }
  return true;
}

std::string to_hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

std::string digest_name(const InputFile& file, uint64_t offset, uint64_t size) {
  if (::sodium_init() < 0) return {};  // it finds out what this CPU is fastest with
  crypto_generichash_state state;
  ::crypto_generichash_init(&state, nullptr, 0, crypto_generichash_BYTES);
  ByteSource source{file, offset, size};
  while (true) {
    const auto piece = source.next();
    if (!piece) return {};
    if (piece->empty()) break;
    ::crypto_generichash_update(&state, reinterpret_cast<const uint8_t*>(piece->data()), piece->size());
  }
  std::array<uint8_t, crypto_generichash_BYTES> digest{};
  ::crypto_generichash_final(&state, digest.data(), digest.size());
  return std::string{kEntryPrefix} + to_hex(digest);
}

std::string link_name(const FileIdentity& id) {
  return fmt::format("{}{:x}-{:x}-{:x}-{:x}-{:x}", kLinkPrefix, id.device, id.inode, id.size, id.modified,
                     id.changed);
}

// A name of an entry, and nothing that leads elsewhere.
bool is_entry_name(std::string_view name) {
  return name.size() == kEntryPrefix.size() + 2 * size_t{crypto_generichash_BYTES} &&
         name.starts_with(kEntryPrefix) &&
         name.find_first_not_of("0123456789abcdef", kEntryPrefix.size()) == std::string_view::npos;
}

// Whether the pages are sorted, apart, inside the image, and as many bytes as the file has for them.
bool are_sound(std::span<const PageRun> runs, uint64_t image_size, uint64_t bytes) {
  uint64_t end = 0;
  uint64_t sum = 0;
  for (const auto& run : runs) {
    if (run.offset % kPageSize != 0 || run.size % kPageSize != 0 || run.size == 0 || run.size > kMostImage) {
      return false;
    }
    if (run.offset < end || run.offset > kMostImage) return false;
    end = run.offset + run.size;
    sum += run.size;
  }
  return end <= align_up(image_size, kPageSize) && sum == bytes;
}

}  // namespace

fs::path KernelCache::user_directory() {
  const auto variable = [](const char* name) -> fs::path {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const auto path = variable("VMM_CACHE"); !path.empty()) return path / "unpacked";
  if (const auto path = variable("XDG_CACHE_HOME"); !path.empty()) return path / "vmm" / "unpacked";
  if (const auto path = variable("HOME"); !path.empty()) return path / ".cache" / "vmm" / "unpacked";
  return {};
}

std::optional<KernelCache> KernelCache::open(const fs::path& directory, std::chrono::seconds settled) {
  const auto refuse = [&](std::string_view why) {
    log(LogLevel::warning, "kernel cache {}: {}, the kernel is unpacked at every start (--kernel-cache)",
        directory.string(), why);
    return std::nullopt;
  };
  Fd fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd && errno == ENOENT) {
    std::error_code error;
    fs::create_directories(directory.parent_path(), error);
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return refuse(std::strerror(errno));
    fd = Fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  }
  if (!fd) return refuse(std::strerror(errno));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return refuse(std::strerror(errno));
  if (!is_ours(status)) return refuse("others can write to it");
  return KernelCache{directory, std::move(fd), settled};
}

bool KernelCache::Entry::read(uint64_t offset, std::span<iovec> to) const {
  while (!to.empty()) {
    const auto count = static_cast<int>(std::min<size_t>(to.size(), IOV_MAX));
    const ssize_t got = ::preadv(file.get(), to.data(), count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    auto done = static_cast<size_t>(got);
    while (!to.empty() && done >= to.front().iov_len) {
      done -= to.front().iov_len;
      to = to.subspan(1);
    }
    if (done != 0) {
      to.front() = {static_cast<std::byte*>(to.front().iov_base) + done, to.front().iov_len - done};
    }
  }
  return true;
}

std::optional<KernelCache::Entry> KernelCache::find(const InputFile& file, uint64_t offset, uint64_t size) {
  name_.clear();
  std::array<char, 128> target{};
  const ssize_t length =
      ::readlinkat(directory_.get(), link_name(file.identity()).c_str(), target.data(), target.size());
  if (length > 0) {
    const std::string_view name{target.data(), static_cast<size_t>(length)};
    if (is_entry_name(name)) {
      if (auto entry = read(std::string{name})) {
        name_ = name;
        return entry;
      }
    }
  }
  name_ = digest_name(file, offset, size);
  if (name_.empty()) return std::nullopt;
  auto entry = read(name_);
  if (entry) link(file);
  return entry;
}

std::optional<KernelCache::Entry> KernelCache::read(const std::string& name) const {
  Entry entry{
      .file = Fd{::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)},
      .image = {},
      .pages_at = 0};
  if (!entry.file) return std::nullopt;
  const auto refuse = [&](std::string_view why) {
    log(LogLevel::warning, "kernel cache {}: {} {}, the kernel is unpacked again", path_.string(), name, why);
    return std::nullopt;
  };
  struct stat status{};
  if (::fstat(entry.file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return refuse("is no file");
  if (!is_ours(status)) return refuse("can be written by others");
  Header header;
  if (!read_exactly(entry.file.get(), 0, std::as_writable_bytes(std::span{&header, 1})) ||
      header.magic != kMagic) {
    return refuse("is not an entry");
  }
  // Each term is bounded, so that no sum wraps.
  const uint64_t file_size = static_cast<uint64_t>(status.st_size);
  const uint64_t table = header.relocations * sizeof(uint32_t);
  if (header.file_size != file_size || header.runs > kMostRuns || header.size > kMostImage ||
      header.relocations > kMostRelocationBytes / sizeof(uint32_t) || header.entry >= header.size ||
      header.linked % kPageSize != 0 || header.linked < kLoaderEnd ||
      file_size < pages_begin(header.runs) + table) {
    return refuse("is damaged");
  }
  auto& image = entry.image;
  image = {.linked = Gpa{header.linked},
           .virtual_base = header.virtual_base,
           .size = header.size,
           .entry = header.entry,
           .pages = std::vector<PageRun>(static_cast<size_t>(header.runs)),
           .relocations = std::vector<uint32_t>(static_cast<size_t>(header.relocations))};
  entry.pages_at = pages_begin(header.runs);
  if (!read_exactly(entry.file.get(), sizeof(header), std::as_writable_bytes(std::span{image.pages})) ||
      !are_sound(image.pages, image.size, file_size - entry.pages_at - table) ||
      !read_exactly(entry.file.get(), file_size - table,
                    std::as_writable_bytes(std::span{image.relocations}))) {
    return refuse("is damaged");
  }
  // The entries used last are those that stay; a day's precision spares the file system a write a start.
  constexpr time_t kDay = 86'400;  // seconds
  if (std::time(nullptr) - status.st_mtime > kDay) ::futimens(entry.file.get(), nullptr);
  return entry;
}

void KernelCache::store(const InputFile& file, const KernelImage& image, const GuestMemory& memory,
                        Gpa base) {
  if (name_.empty()) return;
  if (image.pages.size() > kMostRuns || image.size > kMostImage) return;  // no Linux is like that
  if (const auto written = write(name_, image, memory, base); !written) {
    log(LogLevel::warning, "kernel cache {}: {}, the kernel is unpacked at every start", path_.string(),
        written.error().message);
    return;
  }
  link(file);
  prune();
}

Result<void> KernelCache::write(const std::string& name, const KernelImage& image, const GuestMemory& memory,
                                Gpa base) const {
  const auto temporary = fmt::format("{}{}-{}", kTemporaryPrefix, ::getpid(), name);
  ::unlinkat(directory_.get(), temporary.c_str(), 0);  // of a process that had our number and died
  const Fd file{::openat(directory_.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400)};
  if (!file) return fail(errno, "make an entry");
  const auto give_up = [&](int error) {
    ::unlinkat(directory_.get(), temporary.c_str(), 0);
    return fail(error, "write an entry");
  };

  uint64_t offset = pages_begin(image.pages.size());
  for (const auto& run : image.pages) {
    const auto pages = memory.slice(Gpa{base.raw + run.offset}, run.size);
    if (!pages) return give_up(EFAULT);
    const iovec from = pages->iov();
    if (!write_exactly(file.get(), offset, {static_cast<const std::byte*>(from.iov_base), from.iov_len})) {
      return give_up(errno);
    }
    offset += run.size;
  }
  const auto relocations = std::as_bytes(std::span{image.relocations});
  const Header header{.file_size = offset + relocations.size(),
                      .linked = image.linked.raw,
                      .virtual_base = image.virtual_base,
                      .size = image.size,
                      .entry = image.entry,
                      .runs = image.pages.size(),
                      .relocations = image.relocations.size()};
  // Synchronised before it has its name: after a crash of the host an entry is whole or not there.
  if (!write_exactly(file.get(), offset, relocations) ||
      !write_exactly(file.get(), 0, std::as_bytes(std::span{&header, 1})) ||
      !write_exactly(file.get(), sizeof(header), std::as_bytes(std::span{image.pages})) ||
      ::fdatasync(file.get()) != 0 ||
      ::renameat(directory_.get(), temporary.c_str(), directory_.get(), name.c_str()) != 0) {
    return give_up(errno);
  }
  return {};
}

// A file that was written to a moment ago may be written to again within the same tick of its clock: what it
// held is then no secret of its times.
void KernelCache::link(const InputFile& file) const {
  const auto& id = file.identity();
  const auto newest = std::max(id.modified, id.changed) / 1'000'000'000;
  if (std::time(nullptr) - newest < settled_.count()) return;
  const auto temporary = fmt::format("{}{}-link", kTemporaryPrefix, ::getpid());
  ::unlinkat(directory_.get(), temporary.c_str(), 0);
  if (::symlinkat(name_.c_str(), directory_.get(), temporary.c_str()) != 0 ||
      ::renameat(directory_.get(), temporary.c_str(), directory_.get(), link_name(id).c_str()) != 0) {
    ::unlinkat(directory_.get(), temporary.c_str(), 0);
  }
}

void KernelCache::prune() const {
  Fd again{::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!again) return;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing{::fdopendir(again.get()), &::closedir};
  if (!listing) return;
  [[maybe_unused]] const int owned_by_listing = again.release();
  std::vector<std::pair<time_t, std::string>> entries;
  std::vector<std::pair<time_t, std::string>> links;
  std::vector<std::string> doomed;
  constexpr time_t kAbandoned = 3600;  // seconds
  while (const dirent* const item = ::readdir(listing.get())) {
    std::string name{item->d_name};
    struct stat status{};
    if (::fstatat(directory_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (S_ISREG(status.st_mode) && is_entry_name(name)) {
      entries.emplace_back(status.st_mtime, std::move(name));
    } else if (S_ISLNK(status.st_mode) && name.starts_with(kLinkPrefix)) {
      links.emplace_back(status.st_mtime, std::move(name));
    } else if (name.starts_with(kTemporaryPrefix) && std::time(nullptr) - status.st_mtime > kAbandoned) {
      doomed.push_back(std::move(name));
    }
  }
  const auto keep_newest = [&doomed](auto& items, size_t most) {
    std::ranges::sort(items, std::greater{});
    for (size_t i = most; i < items.size(); ++i) doomed.push_back(std::move(items[i].second));
  };
  keep_newest(entries, kMostEntries);
  keep_newest(links, kMostLinks);  // one that leads to nothing does no harm
  for (const auto& name : doomed) ::unlinkat(directory_.get(), name.c_str(), 0);
}

}  // namespace vmm::firmware
