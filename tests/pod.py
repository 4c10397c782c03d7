"""A pod on this machine: as many processes as hosts, each with CPU devices of its own, over jax.distributed."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from conftest import ROOT
import runs

FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


class Pod:
    """Context of hosts 0 .. count - 1, which run `module` with the same words; ends with all of them dead."""

    def __init__(self, logs, words, *, hosts, devices, each=lambda host: (), module="bert_tpu.pretrain", env=None):
        """each: function host -> further words. logs: a folder for each host's stderr."""
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = [logs / f"host{host}.txt" for host in range(hosts)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes = []
        for host in range(hosts):
            setting = dict(os.environ, XLA_FLAGS=f"{FLAGS} --xla_force_host_platform_device_count={devices}")
            if hosts > 1:
                setting |= {
                    "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(hosts), "JAX_PROCESS_ID": str(host),
                }  # fmt: skip
            setting |= env(host) if env else {}
            with self.logs[host].open("w") as log:
                command = [sys.executable, "-m", module, *words, *each(host)]
                self.processes.append(subprocess.Popen(command, cwd=ROOT, env=setting, stderr=log))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self, host):
        """What a host has written to its stderr."""
        return self.logs[host].read_text()

    def codes(self, timeout_s=120):
        """Every host's exit code."""
        until_s = time.monotonic() + timeout_s
        return [process.wait(max(0.1, until_s - time.monotonic())) for process in self.processes]

    def wait_until(self, moment):
        """Returns once `moment()` holds."""
        while not moment():
            ended = [host for host, process in enumerate(self.processes) if process.poll() is not None]
            assert not ended, f"hosts {ended} ended too early: {self.said(ended[0])}"
            time.sleep(0.01)
