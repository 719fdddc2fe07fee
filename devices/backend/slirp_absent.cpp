// SPDX-License-Identifier: Apache-2.0
//
// What a program without shared libraries is linked with in place of slirp_library.cpp: it cannot load one.
#include "devices/backend/slirp_library.h"

namespace vmm::backend {

Result<SlirpLibrary> SlirpLibrary::load() {
  return fail(
      "start the user network: a static program has none (run vmm instead; or use --net tap=NAME or none)");
}

}  // namespace vmm::backend
