"""The host's memory: what a CPU's steps free is kept for the next step."""

import ctypes
import importlib.util

import jax

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # malloc.h


def keep_freed_memory():
    """Freed memory is no longer handed back to the system, where steps run on a CPU and libc is glibc.

    To be called before JAX looks for devices. XLA:CPU frees all that a step needs beside its state, and asks for it
    anew; as glibc is set, it comes back as fresh pages: of fine-tuning at 6/384, 32 x 128, a gigabyte in 260,000 page
    faults, a fifth of a step's CPU time. All threads share one arena: one of a thread's own ends at 64 MB, and what is
    larger is mapped each time, whatever glibc is told. A step is computed when it is called, not in the background
    beside the end of the one before, which would keep the memory of two. Not for programs without gradients,
    which need less: the scores of tools.audit_bias came 5% slower this way.
    """
    if jax.config.jax_platforms != "cpu" and importlib.util.find_spec("libtpu"):
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
            mallopt(option, value)
