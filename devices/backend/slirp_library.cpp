// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/slirp_library.h"

#include <dlfcn.h>

#include <type_traits>

namespace vmm::backend {
namespace {

constexpr const char* kFile = "libslirp.so.0";  // the interface of slirp/libslirp.h

}  // namespace

Result<SlirpLibrary> SlirpLibrary::load() {
  void* const library = ::dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return fail("start the user network: {} (install libslirp: apt install libslirp0; or use --net tap=NAME)",
                ::dlerror());
  }
  SlirpLibrary slirp{};
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  find(slirp.create, "slirp_new");
  find(slirp.cleanup, "slirp_cleanup");
  find(slirp.input, "slirp_input");
  find(slirp.add_hostfwd, "slirp_add_hostfwd");
  find(slirp.pollfds_fill, "slirp_pollfds_fill");
  find(slirp.pollfds_poll, "slirp_pollfds_poll");
  if (missing != nullptr) return fail("start the user network: {} has no {}", kFile, missing);
  return slirp;
}

}  // namespace vmm::backend
