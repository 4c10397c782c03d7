"""The host's memory: the process keeps the memory that a CPU step frees, for the next step."""

import ctypes
import importlib.util

import jax

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # malloc.h
ACCELERATORS = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin")  # with one of them, JAX may use something faster


def keep_freed_memory() -> None:
    """Stops glibc from returning freed memory to the system, if steps run on a CPU.

    To be called before JAX looks for devices.

    XLA:CPU frees all memory of a step except its state, and asks for it again in the next step. By default glibc gets
    it as fresh pages from the system. Fine-tuning at 6/384, 32 x 128, took a gigabyte in 260,000 page faults a step,
    a fifth of its CPU time. All threads share one arena, because a thread's own arena ends at 64 MB and larger blocks
    are always mapped, with any other setting of glibc. A step is computed when it is called and not in the
    background, because two steps at once would need the memory of two.

    Not for programs without gradients, which need less memory: the scores of bert-tpu bias took 5% longer this way.
    """
    if jax.config.jax_platforms != "cpu" and any(map(importlib.util.find_spec, ACCELERATORS)):  # type: ignore[attr-defined]  # set at run time
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
            mallopt(option, value)
