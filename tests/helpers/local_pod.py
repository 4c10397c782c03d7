"""A pod on this machine: as many processes as hosts, each with CPU devices of its own, over jax.distributed."""

import os
import socket
import subprocess
import time

from conftest import ROOT

from helpers import quick_xla, warm_processes


class Pod:
    """Context of hosts 0 .. count - 1 that all run the same command. It kills them at its end."""

    def __init__(self, logs, words, *, hosts, devices, each=lambda host: (), program="bert_tpu.pretrain"):
        """Starts the hosts. each: function host -> more words of its command. logs: a new folder for their stderr."""
        logs.mkdir(parents=True)
        self.logs = [logs / f"host{host}.txt" for host in range(hosts)]
        address = f"127.0.0.1:{free_port()}"
        self.processes = []
        for host, path in enumerate(self.logs):
            setting = os.environ | {"XLA_FLAGS": quick_xla.flags(devices)}
            setting |= {"PYTHONPATH": str(ROOT)} | environment(address, hosts, host)
            with path.open("w") as log:
                self.processes.append(
                    warm_processes.start(
                        program, [*words, *each(host)], env=setting, stdout=subprocess.DEVNULL, stderr=log
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def stderr(self, host):
        """Returns what a host has printed to stderr. Gloo prints to stdout."""
        return self.logs[host].read_text()

    def exit_codes(self, timeout_s=300):
        """Waits until all hosts have ended and returns the exit code of each."""
        until_s = time.monotonic() + timeout_s
        return [process.wait(max(0.1, until_s - time.monotonic())) for process in self.processes]

    def wait_until(self, moment):
        """Waits until `moment()` is true."""
        while not moment():
            ended = [host for host, process in enumerate(self.processes) if process.poll() is not None]
            assert not ended, f"hosts {ended} ended too early: {self.stderr(ended[0])}"
            time.sleep(0.01)

    def send(self, host, number):
        """Sends a signal to one host."""
        self.processes[host].send_signal(number)


def free_port():
    """Returns a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(address, count, host):
    """Returns the variables that a launcher sets on each host; none for one host alone."""
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    return dict(zip(names, (address, str(count), str(host)), strict=True)) if count > 1 else {}
