"""host_memory.keep_freed_memory saves page faults: a step asks the system for no new pages."""

import json
import mmap
import os
import platform
import statistics
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, json, resource, sys
from bert_tpu.hardware import host_memory
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: where the system gives huge pages, faults are few
if sys.argv[1] == "keep":
    host_memory.keep_freed_memory()
import jax, jax.numpy as jnp

@jax.jit
def step(x):  # its temporary: 64 MB
    y = jnp.exp(x[:, None] * jnp.arange(64))
    return y @ y[:8].T

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

counts, x = [], jnp.zeros(2**18)
for _ in range(12):
    before = faults()
    step(x).block_until_ready()
    counts.append(faults() - before)
print(json.dumps(counts))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it tunes only glibc")
def test_a_step_uses_the_memory_that_the_last_one_freed():
    env = os.environ | {"XLA_FLAGS": ""}  # the tests' own are quick to compile, and slow at 2**24 exponentials

    def faults(word):
        command = [sys.executable, "-c", PROGRAM, word]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        return json.loads(done.stdout)

    kept, returned = faults("keep"), faults("no")
    # The median, because a small block now and then splits the freed memory, even where it is kept.
    assert statistics.median(kept) < 2**26 / mmap.PAGESIZE / 10 < min(returned)
