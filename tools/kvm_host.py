# SPDX-License-Identifier: Apache-2.0
"""What the KVM of this machine is, which may itself be a virtual one."""

import os
import re
from pathlib import Path


def has_hardware_kvm() -> bool:
    """Whether a processor's virtualization is behind a /dev/kvm that can be used: Linux runs on that, and on no other.
    In the lab there is one, too."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return bool(flags and {"vmx", "svm"} & set(flags[1].split())) and os.access("/dev/kvm", os.R_OK | os.W_OK)
