// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.h"

#include <linux/virtio_config.h>

#include <future>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/resident_bytes.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPage = Balloon::kPageSize;
constexpr uint16_t kInflate = 0;
constexpr uint16_t kDeflate = 1;
constexpr uint16_t kStatistics = 2;
constexpr uint16_t kReporting = 4;

// The driver's rings lie in the first 4 MiB; the tests play with the 4 MiB behind the hole.
class BalloonTest : public testing::Test {
 protected:
  static constexpr uint64_t kHigh = 16 * kMiB;

  static GuestMemory two_regions() {
    const GuestMemory::Range ranges[] = {{Gpa{0}, 4 * kMiB}, {Gpa{kHigh}, 4 * kMiB}};
    return GuestMemory::create(ranges).value();
  }
  // Every page of the high region is touched, and says which it is.
  void fill() const {
    for (uint64_t at = kHigh; at < kHigh + 4 * kMiB; at += kPage) ASSERT_TRUE(memory_.store(Gpa{at}, at));
  }
  [[nodiscard]] uint64_t pages_kept() const {
    uint64_t kept = 0;
    for (uint64_t at = kHigh; at < kHigh + 4 * kMiB; at += kPage) {
      const auto is = memory_.load<uint64_t>(Gpa{at});
      EXPECT_TRUE(is == at || is == 0U);
      if (is == at) ++kept;
    }
    return kept;
  }
  [[nodiscard]] bool kept(uint64_t page) const {
    return memory_.load<uint64_t>(Gpa{kHigh + page * kPage}) == kHigh + page * kPage;
  }
  FakeRing::Buffer numbers(uint16_t queue, const std::vector<uint32_t>& list) {
    return driver_.ring(queue).readable({reinterpret_cast<const char*>(list.data()), list.size() * 4});
  }
  [[nodiscard]] uint32_t config(size_t offset) const {
    uint32_t value = 0;
    driver_.core->read_config(offset, std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }

  static constexpr uint32_t kFirst = kHigh / kPage;  // page number of the high region
  static constexpr uint32_t kPages = 4 * kMiB / kPage;
  LoopThread loop_;
  GuestMemory memory_ = two_regions();
  Balloon balloon_{*loop_, memory_, "balloon0", {}};
  FakeDriver driver_{balloon_, memory_};
};

TEST_F(BalloonTest, OffersWhatItHas) {
  const auto own = [](uint64_t features) { return features & 0xffffff; };
  EXPECT_EQ(own(driver_.offered()), 0b100110U);  // STATS_VQ, DEFLATE_ON_OOM, REPORTING
  Balloon quiet{*loop_, memory_, "balloon1", {.report_free_pages = false}};
  EXPECT_EQ(own(quiet.features()), 0b000110U);
}

TEST_F(BalloonTest, InflatingGivesThePagesBack) {
  driver_.start();
  fill();
  std::vector<uint32_t> list{kFirst + 3, kFirst + 4, kFirst + 5, kFirst + 9};  // a run up, one alone
  for (uint32_t page = 40; page > 30; --page) list.push_back(kFirst + page);   // a run down
  const auto before = resident_bytes(memory_);
  driver_.request(kInflate, {numbers(kInflate, list)});
  EXPECT_EQ(resident_bytes(memory_), before - 14 * kPage);
  EXPECT_EQ(pages_kept(), kPages - 14);
  EXPECT_TRUE(kept(2) && !kept(3) && !kept(5) && kept(6) && !kept(9) && kept(30) && !kept(31) && !kept(40) &&
              kept(41));
  EXPECT_FALSE(driver_.needs_reset());
}

TEST_F(BalloonTest, DeflatingIsAcknowledged) {
  driver_.start();
  fill();
  driver_.request(kDeflate, {numbers(kDeflate, {kFirst, 7, 0xffffffff})});
  EXPECT_EQ(pages_kept(), kPages);
  EXPECT_FALSE(driver_.needs_reset());
}

TEST_F(BalloonTest, NumbersOutsideRamAreIgnored) {
  driver_.start();
  fill();
  // In the hole, past the end, at the end of the address space and around it, and runs over both borders.
  driver_.request(kInflate, {numbers(kInflate, {0x500, 0xffffffff, 0, kFirst + kPages, kFirst - 2, kFirst - 1,
                                                kFirst, kFirst + 1, kFirst + 3})});
  EXPECT_EQ(pages_kept(), kPages - 3);
  std::vector<uint32_t> over_the_end(8);
  std::iota(over_the_end.begin(), over_the_end.end(), kFirst + kPages - 4);
  driver_.request(kInflate, {numbers(kInflate, over_the_end)});
  EXPECT_EQ(pages_kept(), kPages - 7);
  EXPECT_FALSE(driver_.needs_reset());
}

TEST_F(BalloonTest, OddLists) {
  driver_.start();
  fill();
  const std::vector<uint32_t> two{kFirst + 1, kFirst + 2};
  auto cut = numbers(kInflate, two);
  cut.length = 6;  // a number and a half
  driver_.request(kInflate, {cut});
  EXPECT_EQ(pages_kept(), kPages - 1);
  driver_.request(kInflate, {driver_.ring(kInflate).writable(64)});  // nothing to read
  // A number that lies across buffers.
  auto first = numbers(kInflate, {kFirst + 7});
  auto second = first;
  first.length = 1;
  second = {Gpa{first.address.raw + 1}, 3, false};
  driver_.request(kInflate, {first, second});
  EXPECT_FALSE(kept(7));
  EXPECT_FALSE(driver_.needs_reset());
}

// A list as long as a chain can be, out of little memory: worked off in turns, others get theirs in between.
TEST_F(BalloonTest, AnEndlessListHoldsNobodyUp) {
  driver_.start();
  const FakeRing::Buffer all{Gpa{kHigh}, 4 * kMiB, false};  // zeroes: page 0 again and again
  const std::vector<FakeRing::Buffer> overlapping(64, all);
  driver_.ring(kInflate).add(overlapping);
  driver_.notify(kInflate);
  driver_.request(kDeflate, {numbers(kDeflate, {kFirst})});
  EXPECT_EQ(driver_.ring(kInflate).used_index(), 0U);  // 64 million numbers are not done by now
  driver_.core->reset();                               // and do not hold up a reset
  driver_.start();
  driver_.request(kInflate, {numbers(kInflate, {kFirst})});
}

TEST_F(BalloonTest, ReportedPagesGoBack) {
  driver_.start();
  fill();
  const auto before = resident_bytes(memory_);
  driver_.request(kReporting, {{Gpa{kHigh + kMiB}, 2 * kMiB, true}, {Gpa{kHigh}, 3 * kPage, true}});
  EXPECT_EQ(resident_bytes(memory_), before - 2 * kMiB - 3 * kPage);
  EXPECT_EQ(pages_kept(), kPages - 512 - 3);
  EXPECT_EQ(balloon_.reported(), 2 * kMiB + 3 * kPage);
}

TEST_F(BalloonTest, OfALongReportTheBeginningGoesBack) {
  driver_.start();
  const std::vector<FakeRing::Buffer> same(64, {Gpa{kHigh}, 4 * kMiB, true});
  driver_.request(kReporting, same);
  EXPECT_EQ(balloon_.reported(), 128 * kMiB);
}

// What lies around a buffer that is not whole pages stays; readable buffers say nothing.

TEST_F(BalloonTest, OddReports) {
  driver_.start();
  fill();
  driver_.request(kReporting, {{Gpa{kHigh}, kPage, false}, {Gpa{kHigh + kPage + 8}, 2 * kPage, true}});
  EXPECT_EQ(pages_kept(), kPages - 1);
  EXPECT_TRUE(kept(0) && kept(1) && !kept(2) && kept(3));
}

TEST_F(BalloonTest, ReportsOutsideRamNeedReset) {
  driver_.start();
  fill();
  driver_.ring(kReporting).add({{Gpa{kHigh + 3 * kMiB}, 2 * kMiB, true}});
  driver_.notify(kReporting);
  EXPECT_TRUE(driver_.wait_needs_reset());
  EXPECT_EQ(pages_kept(), kPages);
  EXPECT_FALSE(balloon_.has_driver());
}

// Linux gives the reporting queue the number after those it uses.
TEST_F(BalloonTest, ReportingQueueWithoutAGap) {
  driver_.start();
  fill();
  driver_.request(3, {{Gpa{kHigh}, kMiB, true}});
  EXPECT_EQ(balloon_.reported(), kMiB);
  driver_.core->reset();
  driver_.start(driver_.offered() & ~(1ULL << VIRTIO_BALLOON_F_STATS_VQ), 64);
  driver_.request(2, {{Gpa{kHigh + kMiB}, kMiB, true}});
  EXPECT_EQ(balloon_.reported(), 2 * kMiB);
}

TEST_F(BalloonTest, QueuesOfNoFeatureNeedReset) {
  driver_.start(driver_.offered() & ~(1ULL << VIRTIO_BALLOON_F_REPORTING), 64);
  fill();
  driver_.ring(kReporting).add({{Gpa{kHigh}, kMiB, true}});
  driver_.notify(kReporting);
  EXPECT_TRUE(driver_.wait_needs_reset());
  EXPECT_EQ(pages_kept(), kPages);
}

TEST_F(BalloonTest, TargetIsSeenAndAnswered) {
  balloon_.set_target(3 * kMiB);  // before there is a driver: it will read it
  driver_.start();
  EXPECT_EQ(config(0), 3 * kMiB / kPage);
  balloon_.set_target(kMiB + 1);
  EXPECT_TRUE(driver_.interrupts.wait([this] { return driver_.interrupts.config_count() == 1; }));
  EXPECT_EQ(config(0), kMiB / kPage);
  const uint32_t actual = 100;
  driver_.core->write_config(4, std::as_bytes(std::span{&actual, 1}));
  EXPECT_EQ(config(4), 100U);
  EXPECT_EQ(balloon_.actual(), 100 * kPage);
  // The target is not the driver's to write, nor is half a number.
  driver_.core->write_config(0, std::as_bytes(std::span{&actual, 1}));
  driver_.core->write_config(6, std::as_bytes(std::span{&actual, 1}).first(2));
  EXPECT_EQ(config(0), kMiB / kPage);
  EXPECT_EQ(config(4), 100U);
  driver_.core->reset();
  EXPECT_EQ(balloon_.actual(), 0U);
  EXPECT_EQ(balloon_.target(), kMiB);
}

class BalloonStatisticsTest : public BalloonTest {
 protected:
  using Answer = std::optional<Balloon::Statistics>;

  FakeRing::Buffer statistics(const std::vector<std::pair<uint16_t, uint64_t>>& list) {
    std::string bytes;
    for (const auto& [tag, value] : list) {
      bytes.append(reinterpret_cast<const char*>(&tag), sizeof tag);
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    return driver_.ring(kStatistics).readable(bytes);
  }
  // The first buffer, which the device holds.
  void offer() {
    driver_.ring(kStatistics).add({statistics({{VIRTIO_BALLOON_S_MEMFREE, 1}})});
    driver_.notify(kStatistics);
    driver_.settle();
    EXPECT_FALSE(driver_.ring(kStatistics).take_used());
  }
  std::future<Answer> ask() {
    auto promise = std::make_shared<std::promise<Answer>>();
    loop_->call(
        [&] { balloon_.ask_statistics([promise](const Answer& answer) { promise->set_value(answer); }); });
    return promise->get_future();
  }
};

TEST_F(BalloonStatisticsTest, AreAskedFor) {
  driver_.start();
  offer();
  for (const uint64_t round : {7U, 8U}) {
    auto answer = ask();
    driver_.wait_used(kStatistics);
    driver_.ring(kStatistics)
        .add({statistics({{VIRTIO_BALLOON_S_MEMFREE, round << 40},
                          {0xffff, 1},  // a kind that we do not know
                          {VIRTIO_BALLOON_S_AVAIL, 5}})});
    driver_.notify(kStatistics);
    const auto told = answer.get();
    driver_.settle();
    EXPECT_EQ(driver_.ring(kStatistics).available_event(), driver_.ring(kStatistics).available_index());
    ASSERT_TRUE(told);
    EXPECT_EQ(told->values[VIRTIO_BALLOON_S_MEMFREE], round << 40);
    EXPECT_EQ(told->values[VIRTIO_BALLOON_S_AVAIL], 5U);
    EXPECT_FALSE(told->values[VIRTIO_BALLOON_S_MEMTOT]);
  }
}

TEST_F(BalloonStatisticsTest, NobodyTellsThem) {
  EXPECT_FALSE(ask().get());  // no driver
  driver_.start();
  EXPECT_FALSE(ask().get());  // no buffer yet
  driver_.core->reset();
  driver_.start(driver_.offered() & ~(1ULL << VIRTIO_BALLOON_F_STATS_VQ), 64);
  EXPECT_FALSE(ask().get());
}

// Whoever waits is let go when the driver goes: the promise is broken.
TEST_F(BalloonStatisticsTest, AreDroppedWithTheDriver) {
  driver_.start();
  offer();
  auto answer = ask();
  driver_.core->reset();
  EXPECT_EQ(answer.wait_for(std::chrono::seconds{10}), std::future_status::ready);
}

TEST_F(BalloonStatisticsTest, ManyBuffersComeBack) {
  driver_.start();
  offer();
  for (int i = 0; i < 3; ++i) driver_.ring(kStatistics).add({statistics({})});
  driver_.notify(kStatistics);
  for (int i = 0; i < 3; ++i) driver_.wait_used(kStatistics);
  driver_.settle();
  EXPECT_FALSE(driver_.ring(kStatistics).take_used());  // the last one is held
  EXPECT_FALSE(driver_.needs_reset());
}

}  // namespace
}  // namespace vmm::virtio
