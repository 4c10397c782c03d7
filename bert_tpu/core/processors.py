"""Counts the processors of this machine."""

import os


def available() -> int:
    """Returns the number of processors that this process may use: fewer than all under taskset, Slurm or a container.

    Systems other than Linux say only how many there are.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
