// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk_request.h"

#include <linux/virtio_blk.h>

#include <gtest/gtest.h>

#include "devices/virtio/queue.h"
#include "devices/virtio/ring_layout.h"
#include "tests/unit/virtio/fake_ring.h"

namespace vmm::virtio {
namespace {

using Kind = BlkRequest::Kind;

class BlkRequestTest : public testing::Test {
 protected:
  using Parsed = tl::expected<BlkRequest, BlkFault>;

  Parsed parse(std::span<const FakeRing::Buffer> buffers) {
    ring_.add_indirect(buffers, buffers.size());
    auto chain = std::move(queue_.pop().value().value());
    const auto parsed = parse_blk_request(chain, limits_);
    queue_.complete(std::move(chain), 0);
    return parsed;
  }
  Parsed parse(std::initializer_list<FakeRing::Buffer> buffers) {
    return parse({buffers.begin(), buffers.size()});
  }
  FakeRing::Buffer header(uint32_t type, uint64_t sector = 0) {
    return bytes(virtio_blk_outhdr{.type = type, .ioprio = 0, .sector = sector});
  }
  template <typename T>
  FakeRing::Buffer bytes(const T& value) {
    return ring_.readable({reinterpret_cast<const char*>(&value), sizeof value});
  }
  FakeRing::Buffer data(uint32_t length, bool writable) { return {Gpa{0x40000}, length, writable}; }
  FakeRing::Buffer status() { return ring_.writable(1); }
  Parsed read(uint64_t sector, uint32_t length) {
    return parse({header(VIRTIO_BLK_T_IN, sector), data(length, true), status()});
  }
  Parsed write(uint64_t sector, uint32_t length) {
    return parse({header(VIRTIO_BLK_T_OUT, sector), data(length, false), status()});
  }
  Parsed segments(uint32_t type, uint64_t sector, uint32_t count, uint32_t flags) {
    return parse({header(type), bytes(virtio_blk_discard_write_zeroes{sector, count, flags}), status()});
  }

  static BlkFault fault(const Parsed& parsed) {
    EXPECT_FALSE(parsed);
    return parsed ? BlkFault{99} : parsed.error();
  }

  BlkLimits limits_{.sectors = 100,
                    .read_only = false,
                    .can_discard = true,
                    .max_discard_sectors = 50,
                    .max_write_zeroes_sectors = 20};
  GuestMemory memory_ = make_test_memory();
  FakeRing ring_{memory_, Gpa{0x1000}, 8};
  Queue queue_ = Queue::create(memory_, ring_.config(), kFeatureIndirect).value();
};

TEST_F(BlkRequestTest, ReadsAndWrites) {
  const auto in = read(3, 1024);
  ASSERT_TRUE(in);
  EXPECT_EQ(in->kind, Kind::read);
  EXPECT_EQ(in->offset, 1536U);
  EXPECT_EQ(in->length, 1024U);
  EXPECT_EQ(in->status_at, 1024U);
  const auto out = write(99, 512);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->kind, Kind::write);
  EXPECT_EQ(out->status_at, 0U);
  EXPECT_EQ(parse({header(VIRTIO_BLK_T_FLUSH), status()})->kind, Kind::flush);
}

// HG10: the framing of messages is the driver's choice (2.7.4.1).
TEST_F(BlkRequestTest, HeaderSplitOverDescriptors) {
  const auto whole = header(VIRTIO_BLK_T_OUT, 7);
  const auto piece = [&](uint64_t at, uint32_t length) {
    return FakeRing::Buffer{Gpa{whole.address.raw + at}, length, false};
  };
  const auto parsed = parse({piece(0, 5), piece(5, 1), piece(6, 10), data(512, false), status()});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->offset, 7 * 512U);
  // Header and data in one buffer, data and status in one buffer.
  const auto joined = ring_.readable(std::string(16, '\0') + std::string(512, 'x'));
  ASSERT_TRUE(
      memory_.store(joined.address, virtio_blk_outhdr{.type = VIRTIO_BLK_T_OUT, .ioprio = 0, .sector = 1}));
  EXPECT_EQ(parse({joined, status()})->length, 512U);
  const auto in = parse({header(VIRTIO_BLK_T_IN), data(513, true)});
  ASSERT_TRUE(in);
  EXPECT_EQ(in->status_at, 512U);
}

// HG10
TEST_F(BlkRequestTest, MissingParts) {
  EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_IN)})), BlkFault::no_status);
  EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_OUT), data(512, false)})), BlkFault::no_status);
  EXPECT_EQ(fault(parse({ring_.readable(std::string(15, '\0')), status()})), BlkFault::bad_layout);
  EXPECT_EQ(fault(parse({status()})), BlkFault::bad_layout);
  EXPECT_FALSE(status_of(BlkFault::no_status));
}

// HG09
TEST_F(BlkRequestTest, WrongDirections) {
  EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_IN), data(512, false), status()})), BlkFault::bad_layout);
  EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_OUT), data(512, true), status()})), BlkFault::bad_layout);
  EXPECT_EQ(fault(parse({ring_.writable(16), data(512, true), status()})), BlkFault::bad_layout);
}

// HG37
TEST_F(BlkRequestTest, OutsideTheDisk) {
  EXPECT_TRUE(read(99, 512));
  EXPECT_TRUE(read(0, 51200));
  EXPECT_EQ(fault(read(100, 512)), BlkFault::outside_disk);
  EXPECT_EQ(fault(read(99, 1024)), BlkFault::outside_disk);
  EXPECT_EQ(fault(read(0, 51712)), BlkFault::outside_disk);
  for (const uint64_t sector : {101UL, 1UL << 55, (1UL << 55) - 1, UINT64_MAX, UINT64_MAX - 1}) {
    EXPECT_EQ(fault(read(sector, 512)), BlkFault::outside_disk) << sector;
    EXPECT_EQ(fault(write(sector, 512)), BlkFault::outside_disk) << sector;
    EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, sector, 1, 0)), BlkFault::outside_disk) << sector;
  }
  // Two descriptors, each of them inside, together behind the end.
  EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_OUT, 99), data(512, false), data(512, false), status()})),
            BlkFault::outside_disk);
}

// HG38
TEST_F(BlkRequestTest, DataLengths) {
  for (const uint32_t length : {1U, 511U, 513U}) {
    EXPECT_EQ(fault(read(0, length)), BlkFault::bad_layout);
    EXPECT_EQ(fault(write(0, length)), BlkFault::bad_layout);
  }
  EXPECT_EQ(parse({header(VIRTIO_BLK_T_IN), status()})->length, 0U);
  // More segments than seg_max: unwise of the driver, and harmless.
  std::vector<FakeRing::Buffer> buffers{header(VIRTIO_BLK_T_OUT)};
  for (int i = 0; i < 6; ++i) buffers.push_back(data(512, false));
  buffers.push_back(status());
  EXPECT_EQ(parse(buffers)->length, 6 * 512U);
}

// HG39
TEST_F(BlkRequestTest, OtherTypes) {
  for (const uint32_t type : {2U, 3U, 5U, 9U, 10U, 14U, 15U, 0x8000'0000U, UINT32_MAX}) {
    EXPECT_EQ(fault(parse({header(type), status()})), BlkFault::unknown_type) << type;
  }
  EXPECT_EQ(status_of(BlkFault::unknown_type), VIRTIO_BLK_S_UNSUPP);
  for (const uint32_t length : {1U, 19U, 21U, 4096U}) {
    EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_GET_ID), data(length, true), status()})),
              BlkFault::bad_layout);
  }
  EXPECT_EQ(parse({header(VIRTIO_BLK_T_GET_ID), data(20, true), status()})->kind, Kind::get_id);
}

// HG40
TEST_F(BlkRequestTest, DiscardsAndZeroes) {
  const auto discard = segments(VIRTIO_BLK_T_DISCARD, 50, 50, 0);
  ASSERT_TRUE(discard);
  EXPECT_EQ(discard->offset, 50 * 512U);
  EXPECT_EQ(discard->length, 50 * 512U);
  const auto zeroes = segments(VIRTIO_BLK_T_WRITE_ZEROES, 1, 20, 1);
  ASSERT_TRUE(zeroes);
  EXPECT_TRUE(zeroes->may_unmap);
  EXPECT_FALSE(segments(VIRTIO_BLK_T_WRITE_ZEROES, 1, 20, 0)->may_unmap);

  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, 0, 1, 1)), BlkFault::unknown_type);  // unmap on a discard
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, 0, 1, UINT32_MAX)), BlkFault::unknown_type);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2)), BlkFault::unknown_type);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, 0, 51, 0)), BlkFault::too_long);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_WRITE_ZEROES, 0, UINT32_MAX, 0)), BlkFault::too_long);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, 0, 0, 0)), BlkFault::bad_layout);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_WRITE_ZEROES, 90, 11, 0)), BlkFault::outside_disk);
  for (const uint32_t length : {0U, 15U, 17U, 32U, 4096U}) {
    EXPECT_EQ(fault(parse({header(VIRTIO_BLK_T_DISCARD), data(length, false), status()})),
              BlkFault::bad_layout);
  }
  limits_.can_discard = false;
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, 0, 1, 0)), BlkFault::unknown_type);
}

// HG41
TEST_F(BlkRequestTest, ReadOnly) {
  limits_.read_only = true;
  EXPECT_EQ(fault(write(0, 512)), BlkFault::read_only);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_DISCARD, 0, 1, 0)), BlkFault::read_only);
  EXPECT_EQ(fault(segments(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0)), BlkFault::read_only);
  EXPECT_EQ(status_of(BlkFault::read_only), VIRTIO_BLK_S_IOERR);
  EXPECT_TRUE(read(0, 512));
  EXPECT_TRUE(parse({header(VIRTIO_BLK_T_FLUSH), status()}));
}

}  // namespace
}  // namespace vmm::virtio
