// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net_pair.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

namespace vmm::virtio {
namespace {

using backend::VnetHeader;

constexpr size_t kHeader = sizeof(VnetHeader);
// Frames of one turn of the loop, each way: a busy network must not keep the loop from its disks.
constexpr int kShare = 64;
// What a frame counts for the loop, where five requests without a sleep are many, for a disk's large transfer
// comes in three: of frames three are many, for an answer follows upon each question.
constexpr unsigned kRequestsPerFrame = 2;
// What is a short frame, with header; and after so many of them that came alone, one is expected.
constexpr size_t kShort = 1536;
constexpr unsigned kLone = 8;
// readv(2) takes 1024 vectors; one is for what spills.
constexpr size_t kMostParts = 1023;

}  // namespace

void NetSession::fail(std::string_view why) {
  broken = true;
  driver->needs_reset(why);
}

NetPair::Counts& NetPair::Counts::operator+=(const Counts& other) {
  frames += other.frames;
  bytes += other.bytes;
  dropped += other.dropped;
  return *this;
}

void NetPair::Counters::count(size_t length) {
  frames.fetch_add(1, std::memory_order_relaxed);
  bytes.fetch_add(length, std::memory_order_relaxed);
}

NetPair::Counts NetPair::Counters::read() const {
  return {.frames = frames.load(std::memory_order_relaxed),
          .bytes = bytes.load(std::memory_order_relaxed),
          .dropped = dropped.load(std::memory_order_relaxed)};
}

void NetPair::start(Queue& receive, Queue& transmit) {
  receive_ = &receive;
  transmit_ = &transmit;
}

void NetPair::enable() {
  if (enabled_ || session_.broken) return;
  enabled_ = true;
  spill_ = std::make_unique_for_overwrite<std::byte[]>(kLongestFrame);
  if (const auto begun = begin(); !begun) return fail(begun.error().message);
  if (receive_->ready()) handle_receive();
  if (transmit_->ready()) handle_transmit();
}

Result<void> NetPair::begin() {
  VMM_TRY(receive_throttle_.start(loop_, [this] { handle_receive(); }));
  VMM_TRY(transmit_throttle_.start(loop_, [this] { handle_transmit(); }));
  return backend_.start(loop_, [this] { handle_receive(); });
}

void NetPair::disable() {
  if (!enabled_) return;
  end_turn();
  loop_.done_with(*this);
  enabled_ = false;
  backend_.stop();
  receive_throttle_.stop();
  transmit_throttle_.stop();
  receiving_ = false;
  if (std::exchange(unfinished_, std::nullopt)) received_.drop();
  spill_.reset();
}

// Nothing is in flight: the buffers held are stale now, and the backend holds none.
void NetPair::stop() {
  disable();
  buffers_.clear();
  buffer_bytes_ = 0;
  room_.clear();
}

void NetPair::fail(std::string_view why) {
  staged_ = false;
  stop();
  session_.fail(why);
}

void NetPair::handle_link_up() {
  if (working() && receive_->ready()) want_receive(true);
}

void NetPair::handle_transmit() {
  if (!working()) return;
  transmit_->disable_doorbell();
  take_frames();
  if (working()) loop_.keep_busy(*this);  // until rest() lets the driver ring again
}

// What the driver has added. True if there was anything.
bool NetPair::take_frames() {
  bool some = false;
  for (int share = kShare; share > 0 && working() && !transmit_throttle_.closed(); --share) {
    auto popped = transmit_->pop();
    if (!popped) {
      fail(to_string(popped.error()));
      return false;
    }
    if (!*popped) break;
    auto& chain = **popped;
    if (!transmit(chain)) {
      fail("a frame without a header");
      return false;
    }
    transmit_->stage(std::move(chain), 0);
    staged_ = some = true;
    loop_.took(kRequestsPerFrame);
  }
  return some;
}

void NetPair::end_turn() {
  if (!std::exchange(staged_, false) || !working()) return;
  transmit_->publish();
  session_.driver->notify_used(transmit_index_);
}

// Where there is a limit, its timer asks again.
bool NetPair::rest() {
  if (!working() || transmit_throttle_.closed() || !transmit_->enable_doorbell()) return false;
  transmit_->disable_doorbell();
  return take_frames();
}

// False for a driver that is broken; a frame that cannot be sent is not sent.
bool NetPair::transmit(const Chain& chain) {
  VnetHeader header;
  if (!chain.copy_in(0, std::as_writable_bytes(std::span{&header, 1}))) return false;
  const size_t length = chain.readable_size() - kHeader;
  parts_.assign(1, {&header, kHeader});  // our copy, which is the one that was checked
  const bool possible = length >= kShortestFrame && length <= kLongestFrame &&
                        accept_header(header, length, session_.features) &&
                        chain.readable_iov(kHeader, length, parts_) && parts_.size() <= kMostParts;
  if (possible) transmit_throttle_.count(length);
  if (possible && backend_.send(parts_) == 0) {
    sent_.count(length);
  } else {
    sent_.drop();
  }
  return true;
}

// Frames, as long as there are some and room for them. Called when either may have come.
void NetPair::handle_receive() {
  if (!enabled_) return;
  if (session_.broken) return want_receive(false);
  auto& queue = *receive_;
  queue.disable_doorbell();
  auto progress = Progress::more;
  const bool little = expects_little();
  const int share = little ? 1 : kShare;
  const auto before = received_.read();
  for (int i = 0; i < share && progress == Progress::more; ++i) {
    progress = unfinished_ ? finish_frame() : receive_frame(little);
  }
  if (progress == Progress::broken) return;
  learn(before);
  session_.driver->notify_used(receive_index_);
  // Without buffers the driver's doorbell wakes us, and where there is a limit its timer; else the backend
  // does.
  want_receive(progress == Progress::more || progress == Progress::wait_for_frames);
  if (progress == Progress::more && (!little || unfinished_)) session_.driver->handle_again(receive_index_);
}

// A look for the frame behind the last one costs a call, and each buffer that a call may fill costs it time.
// Where frames are short and come one at a time, in answer to what the guest sends, one is taken into what
// one needs: if there are more, the backend says so soon enough, and what is longer spills. Now and then it
// is tried.
bool NetPair::expects_little() const {
  return lone_ >= kLone && lone_ < 2 * kLone && session_.negotiated(net_feature::kMergeable);
}

void NetPair::learn(const Counts& before) {
  const auto now = received_.read();
  const uint64_t frames = now.frames - before.frames;
  if (frames > 1 || now.bytes - before.bytes > kShort) {
    lone_ = 0;
  } else if (frames == 1) {
    lone_ = lone_ == 2 * kLone ? kLone : lone_ + 1;
  }
}

void NetPair::want_receive(bool wanted) {
  if (std::exchange(receiving_, wanted) != wanted) backend_.want_receive(wanted);
}

// Takes buffers from the queue until `bytes` are at hand, or, when frames cannot be merged of several, one.
// None if that worked as far as there are buffers; their absence is the caller's to judge.
std::optional<NetPair::Progress> NetPair::add_buffers(size_t bytes) {
  auto& queue = *receive_;
  const bool merge = session_.negotiated(net_feature::kMergeable);
  while (merge ? buffer_bytes_ < bytes : buffers_.empty()) {
    auto popped = queue.pop();
    if (!popped) {
      fail(to_string(popped.error()));
      return Progress::broken;
    }
    if (!*popped) return std::nullopt;
    auto& chain = **popped;
    if (chain.writable_size() < kHeader) {
      fail("a receive buffer that is too short for a header");
      return Progress::broken;
    }
    buffer_bytes_ += chain.writable_size();
    [[maybe_unused]] const bool whole = chain.writable_iov(0, chain.writable_size(), room_);
    assert(whole);
    buffers_.push_back(std::move(chain));
  }
  return std::nullopt;
}

// Buffers at hand as parts_, as many as so many bytes need and one call takes. Bytes.
size_t NetPair::lay_out_room(size_t bytes) {
  parts_.clear();
  size_t room = 0;
  for (const auto& part : room_) {
    if (room >= bytes || parts_.size() == kMostParts) break;
    parts_.push_back(part);
    room += part.iov_len;
  }
  return room;
}

NetPair::Progress NetPair::receive_frame(bool little) {
  if (receive_throttle_.closed()) return Progress::wait_for_limit;
  if (const auto stop = add_buffers(session_.most_bytes)) return *stop;
  if (buffers_.empty()) {
    return receive_->enable_doorbell() ? Progress::more : Progress::wait_for_buffers;
  }
  const size_t room = lay_out_room(little ? kShort : session_.most_bytes);
  parts_.push_back({spill_.get(), kLongestFrame});
  const int count = backend_.receive(parts_);
  if (count == -EAGAIN) return Progress::wait_for_frames;
  if (count == -EFAULT || count == -EINVAL || count == -EINTR) {  // of this frame, or this call, alone
    received_.drop();
    return Progress::more;
  }
  if (count < 0) return Progress::wait_for_link;
  const auto length = static_cast<size_t>(count);
  receive_throttle_.count(length - std::min(length, kHeader));
  if (length < kHeader + kShortestFrame || (length > room && !session_.negotiated(net_feature::kMergeable))) {
    received_.drop();
    return Progress::more;
  }
  if (length > room) {
    unfinished_ = Unfinished{.length = length, .written = room};
    return Progress::more;
  }
  deliver(length);
  return Progress::more;
}

NetPair::Progress NetPair::finish_frame() {
  if (const auto stop = add_buffers(unfinished_->length)) return *stop;
  const auto [length, written] = *unfinished_;
  if (buffer_bytes_ < length) {
    if (receive_->enable_doorbell()) return Progress::more;
    if (buffers_.size() < receive_->size()) return Progress::wait_for_buffers;
    // All that the driver can ever give at once is not enough.
    unfinished_.reset();
    received_.drop();
    return Progress::more;
  }
  unfinished_.reset();
  write_to_buffers(written, {spill_.get(), length - written});
  deliver(length);
  return Progress::more;
}

void NetPair::write_to_buffers(size_t offset, std::span<const std::byte> bytes) {
  for (const auto& chain : buffers_) {
    if (offset >= chain.writable_size()) {
      offset -= chain.writable_size();
      continue;
    }
    const auto part = bytes.first(std::min(bytes.size(), chain.writable_size() - offset));
    [[maybe_unused]] const bool wrote = chain.copy_out(offset, part);
    assert(wrote);
    bytes = bytes.subspan(part.size());
    if (bytes.empty()) return;
    offset = 0;
  }
}

// Gives the driver the frame that lies in the first buffers: all of them at once, or it would find a frame
// without its end.
void NetPair::deliver(size_t length) {
  auto& queue = *receive_;
  size_t rest = length;
  uint16_t count = 0;
  for (const auto& chain : buffers_) {
    ++count;
    if (chain.writable_size() >= rest) break;
    rest -= chain.writable_size();
  }
  const auto& first = buffers_.front();
  [[maybe_unused]] bool wrote =
      first.copy_out(offsetof(VnetHeader, buffers), std::as_bytes(std::span{&count, 1}));
  assert(wrote);
  if (!session_.negotiated(net_feature::kGuestChecksum)) {
    // A tap says "checksum valid" to everybody; a driver that did not ask must find zero (5.1.6.4.1).
    constexpr std::byte kNoFlags{0};
    wrote = first.copy_out(offsetof(VnetHeader, flags), {&kNoFlags, 1});
    assert(wrote);
  }
  rest = length;
  size_t given = 0;
  for (; count > 0; --count) {
    auto chain = std::move(buffers_.front());
    buffers_.pop_front();
    given += chain.writable_size();
    const size_t filled = std::min(rest, chain.writable_size());
    rest -= filled;
    queue.stage(std::move(chain), static_cast<uint32_t>(filled));
  }
  buffer_bytes_ -= given;
  auto kept = room_.begin();
  for (; given > 0; ++kept) given -= kept->iov_len;
  room_.erase(room_.begin(), kept);
  queue.publish();
  loop_.took(kRequestsPerFrame);
  received_.count(length - kHeader);
}

}  // namespace vmm::virtio
