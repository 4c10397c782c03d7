"""How tests start: XLA builds their programs unoptimized, in one piece, by its older emitters.

They compute the same and are compiled in a quarter of the time, and once where several tests or processes have one.
And what is imported is not searched for garbage.
"""

import atexit
import gc
import shutil
import tempfile

gc.disable()  # before the rest is imported; conftest.py ends it

FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)


def flags(devices):
    """XLA_FLAGS for a process that has so many CPU devices."""
    return f"{FLAGS} --xla_force_host_platform_device_count={devices}"


def folder():
    """A new one for compiled programs, which ends with this process."""
    made = tempfile.mkdtemp(prefix="bert_tpu-tests-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
