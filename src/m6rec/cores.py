"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")  # of a container: what its processes may use together


def cores(group: Path = GROUP) -> int:
    """Return the cores that this process may run on, and no more than a container's limit of
    processor time is worth: threads beyond it stand still while the others wait for them."""
    try:
        there = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        there = os.cpu_count() or 1
    return max(1, min(there, _limit(group)))


def _limit(group: Path) -> int:
    """The limit of a control group, of version 2 or 1, rounded up."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((group / "cpu" / name).read_text() for name in names)
        return -(-int(quota) // int(period)) if int(quota) > 0 else 2**31
    except (OSError, ValueError):  # no limit: "max", or no such file
        return 2**31
