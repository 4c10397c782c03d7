"""Makes tests start quickly: XLA compiles without optimization, and imports run without garbage collection.

XLA's flags choose one piece per program and the older emitters. The results are the same, and compiling takes a quarter
of the time. A shared cache compiles a program once for all tests and processes.
"""

import atexit
import gc
import shutil
import tempfile

gc.disable()  # before the other imports; conftest.py enables it again after the last of them

FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)


def flags(devices):
    """Returns XLA_FLAGS for a process with `devices` CPU devices."""
    return f"{FLAGS} --xla_force_host_platform_device_count={devices}"


def make_cache_folder():
    """Returns a new folder for compiled programs, which is deleted when this process ends."""
    path = tempfile.mkdtemp(prefix="bert_tpu-tests-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
