// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's command line says about the root file system (kernel documentation,
// admin-guide/kernel-parameters), and the parameters that it holds for modules.
#pragma once

#include "guest/init/text.h"

namespace guest {

struct RootWish {
  Text device;                 // root=: /dev/NAME, NAME, UUID=… or LABEL=…; empty where nothing is said
  Text types;                  // rootfstype=: comma-separated
  Text options;                // rootflags=
  Text init;                   // init=
  bool read_only = true;       // ro, rw: the last one holds; the kernel's default is ro
  bool wait_for_ever = false;  // rootwait
  uint32_t wait_seconds = 5;   // rootdelay=, rootwait=: the longest wait, never a fixed one
  bool panics = false;         // panic= other than 0: somebody wants a reboot and no shell
};

// Calls visit(word) for each word; double quotes keep spaces inside a word together, as the kernel's own
// parser does.
template <typename Visit>
void each_word(Text line, Visit&& visit) {
  size_t at = 0;
  while (at < line.size) {
    while (at < line.size && (line[at] == ' ' || line[at] == '\t' || line[at] == '\n')) ++at;
    const size_t start = at;
    bool quoted = false;
    while (at < line.size && (quoted || (line[at] != ' ' && line[at] != '\t' && line[at] != '\n'))) {
      if (line[at] == '"') quoted = !quoted;
      ++at;
    }
    if (at > start) visit(line.drop(start).first(at - start));
  }
}

// `value` without the quotes that may surround it.
constexpr Text unquoted(Text value) {
  if (value.size >= 2 && value[0] == '"' && value[value.size - 1] == '"')
    return value.drop(1).first(value.size - 2);
  return value;
}

inline RootWish parse_root_wish(Text line) {
  RootWish wish;
  each_word(line, [&](Text word) {
    Text value = word;
    const Text name = take_until(value, '=');
    value = unquoted(value);
    if (name == "root")
      wish.device = value;
    else if (name == "rootfstype")
      wish.types = value;
    else if (name == "rootflags")
      wish.options = value;
    else if (name == "init")
      wish.init = value;
    else if (word == "ro")
      wish.read_only = true;
    else if (word == "rw")
      wish.read_only = false;
    else if (word == "rootwait")
      wish.wait_for_ever = true;
    else if (name == "rootwait" || name == "rootdelay")
      wish.wait_seconds = number(value);
    else if (name == "panic")
      wish.panics = !(value == "0");
  });
  return wish;
}

// Module names and parameters treat '-' and '_' alike.
constexpr bool same_name(Text a, Text b) {
  if (a.size != b.size) return false;
  for (size_t i = 0; i < a.size; ++i) {
    const char x = a[i] == '-' ? '_' : a[i];
    const char y = b[i] == '-' ? '_' : b[i];
    if (x != y) return false;
  }
  return true;
}

// The kernel leaves `module.parameter=value` of a loadable module to whoever loads it: collects those of
// `module`, in order, as finit_module() wants them.
template <size_t Capacity>
void module_parameters(Text line, Text module, Buffer<Capacity>& into) {
  each_word(line, [&](Text word) {
    const size_t dot = word.find('.');
    if (dot == word.size || dot > word.find('=') || !same_name(word.first(dot), module)) return;
    if (!into.empty()) into.add(" ");
    into.add(word.drop(dot + 1));
  });
}

}  // namespace guest
