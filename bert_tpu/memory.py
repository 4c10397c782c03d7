"""The host's memory: what a CPU's steps free is kept for the next step."""

import ctypes

import jax

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h


def keep():
    """Freed memory is no longer handed back to the system, where steps run on a CPU and libc is glibc.

    XLA:CPU frees tens of megabytes a step and asks for them anew. As glibc is set, each comes back as fresh pages:
    10,900 page faults a step of configs/demo.py, a quarter of its CPU time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and jax.default_backend() == "cpu":
        for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28)):
            mallopt(option, value)
