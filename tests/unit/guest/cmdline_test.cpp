// SPDX-License-Identifier: Apache-2.0
#include "guest/init/cmdline.h"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace guest {
namespace {

std::string_view view(Text text) {
  return {text.data, text.size};
}

std::vector<std::string_view> words(Text line) {
  std::vector<std::string_view> found;
  each_word(line, [&](Text word) { found.push_back(view(word)); });
  return found;
}

std::string parameters(Text line, Text module) {
  Buffer<64> into;
  module_parameters(line, module, into);
  return into.c_str();
}

TEST(EachWord, SplitsAtBlanksAndEndsWithTheNewline) {
  EXPECT_EQ(words("a  b=c\td\n"), (std::vector<std::string_view>{"a", "b=c", "d"}));
  EXPECT_TRUE(words(" \n").empty());
  EXPECT_TRUE(words(Text{}).empty());
}

TEST(EachWord, KeepsQuotedBlanksTogether) {
  EXPECT_EQ(words("x=\"a b\" y"), (std::vector<std::string_view>{"x=\"a b\"", "y"}));
  EXPECT_EQ(words("x=\"never closed y"), (std::vector<std::string_view>{"x=\"never closed y"}));
}

TEST(RootWish, HoldsTheKernelsDefaultsWhereNothingIsSaid) {
  const RootWish wish = parse_root_wish("console=ttyS0 quiet");
  EXPECT_TRUE(wish.device.empty());
  EXPECT_TRUE(wish.read_only);
  EXPECT_FALSE(wish.wait_for_ever);
  EXPECT_FALSE(wish.panics);
}

TEST(RootWish, ReadsEachParameter) {
  const RootWish wish = parse_root_wish(
      "root=UUID=1234 rw rootfstype=ext4,xfs rootflags=\"data=journal,noatime\" rootdelay=7 init=/bin/sh "
      "panic=-1\n");
  EXPECT_EQ(view(wish.device), "UUID=1234");
  EXPECT_EQ(view(wish.types), "ext4,xfs");
  EXPECT_EQ(view(wish.options), "data=journal,noatime");
  EXPECT_EQ(view(wish.init), "/bin/sh");
  EXPECT_FALSE(wish.read_only);
  EXPECT_EQ(wish.wait_seconds, 7u);
  EXPECT_TRUE(wish.panics);
}

TEST(RootWish, LetsTheLastOneHold) {
  EXPECT_TRUE(parse_root_wish("rw ro").read_only);
  EXPECT_FALSE(parse_root_wish("ro rw").read_only);
  EXPECT_EQ(view(parse_root_wish("root=/dev/vda root=/dev/vdb").device), "/dev/vdb");
  EXPECT_FALSE(parse_root_wish("panic=1 panic=0").panics);
}

TEST(RootWish, TellsRootwaitFromRootwaitWithANumber) {
  EXPECT_TRUE(parse_root_wish("rootwait").wait_for_ever);
  const RootWish wish = parse_root_wish("rootwait=3");
  EXPECT_FALSE(wish.wait_for_ever);
  EXPECT_EQ(wish.wait_seconds, 3u);
}

TEST(RootWish, TakesNoWordForALongerOrShorterOne) {
  const RootWish wish = parse_root_wish("xroot=/dev/vda rwx rootfs=ext4 no.root=/dev/vdb");
  EXPECT_TRUE(wish.device.empty());
  EXPECT_TRUE(wish.read_only);
  EXPECT_TRUE(wish.types.empty());
}

TEST(ModuleParameters, CollectsThoseOfTheModuleInOrder) {
  const Text line =
      "virtio_mmio.device=4K@0xfeb00000:5 quiet virtio_mmio.device=4K@0xfeb01000:6 loop.max_loop=8\n";
  EXPECT_EQ(parameters(line, "virtio_mmio"), "device=4K@0xfeb00000:5 device=4K@0xfeb01000:6");
  EXPECT_EQ(parameters(line, "loop"), "max_loop=8");
  EXPECT_EQ(parameters(line, "virtio"), "");
}

TEST(ModuleParameters, TreatsDashAndUnderscoreAlike) {
  EXPECT_EQ(parameters("virtio-mmio.device=x", "virtio_mmio"), "device=x");
  EXPECT_EQ(parameters("virtio_rng.quality=1", "virtio-rng"), "quality=1");
}

TEST(ModuleParameters, SeesNoModuleNameBehindAnEqualsSign) {
  EXPECT_EQ(parameters("file=loop.x=1", "file=loop"), "");
  EXPECT_EQ(parameters("plain", "plain"), "");
}

}  // namespace
}  // namespace guest
