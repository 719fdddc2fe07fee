// SPDX-License-Identifier: Apache-2.0
//
// libslirp, loaded when a machine has a user network. It brings glib along, whose memory and start-up time
// every other machine would pay for nothing.
#pragma once

#include <slirp/libslirp.h>

#include "vmm/core/result.h"

namespace vmm::backend {

// The functions of it that are used.
struct SlirpLibrary {
  decltype(&slirp_new) create;
  decltype(&slirp_cleanup) cleanup;
  decltype(&slirp_input) input;
  decltype(&slirp_add_hostfwd) add_hostfwd;
  decltype(&slirp_pollfds_fill) pollfds_fill;
  decltype(&slirp_pollfds_poll) pollfds_poll;

  // Stays loaded for as long as the process lives.
  static Result<SlirpLibrary> load();
};

}  // namespace vmm::backend
