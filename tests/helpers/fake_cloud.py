"""A pod for tests of launch/: the working tree as a checkout, a stub gcloud first in PATH, and folders as hosts."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from conftest import ROOT

SHIPPED = ("launch", "pyproject.toml", "requirements.txt", "constraints.txt")
ENV = {
    "PROJECT": "my-project-123",
    "ZONE": "us-central1-a",
    "NAME": "bert",
    "ACCELERATOR": "v5litepod-16",
    "BUCKET": "gs://my-bucket",
    "CAPACITY": "spot",
    "CREATE": "direct",
}
RUN_ARGS = ("--", "--config", "configs/bert.py:medium", "--workdir", "gs://my-bucket/runs/medium")
REPORT = {
    "host": "HOST", "name": "t", "python": "3.11.9", "port": {"skew_s": 0.0}, "commit": "c0ffee", "corpus": None,
    "versions": {"jax": ["0.10.2", "0.10.2"]}, "disk_gib": 90, "memory_gib": 190,
    "devices": {"platform": "tpu", "kind": "TPU v5 lite", "count": 4},
    "bucket": {"write_mb_s": 90, "read_mb_s": 200}, "tensorflow": {"packages": ["tensorflow-cpu"], "devices": ["CPU"]},
}  # fmt: skip


def checkout(repo):
    """Copies the shipped files of the working tree, committed or not, to `repo`, and commits them there."""
    for name in SHIPPED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, repo / name)
    git = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "All"], check=True)
    return repo


def wait_for(condition):
    """Calls `condition` until its result is true, and returns the result. Fails after 30 s."""
    until = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return value


class Cloud:
    """The folder of the stub gcloud, and launch/tpu_pod.sh run with it.

    checkout: what `checkout` returns.
    folder: an empty folder for the stub's files.
    ready_pod: the folder of a Cloud whose pod is set up; `up` copies its hosts.
    """

    def __init__(self, checkout, folder, ready_pod=None):
        self.checkout, self.folder, self.bin, self.ready_pod = checkout, folder, folder / "bin", ready_pod
        self.bin.mkdir()
        python = f"#!{sys.executable} -IS\n"
        self.program("gcloud", python + (ROOT / "tests/helpers/stub_gcloud.py").read_text())
        self.program("stub-python", python + (ROOT / "tests/helpers/stub_python.py").read_text())
        copy = f'mkdir -p "$d/bin" && cp {self.bin}/stub-python "$d/bin/python"'
        self.program(
            "uv", f'#!/bin/sh\necho "$@" >>{folder}/uv.log\n[ $1 = pip ] || {{ for d; do :; done; {copy}; }}\n'
        )
        self.env = ENV
        self.settle_s = 0.3  # before the first look at a new run
        self.play()
        self.write("doctor.json", REPORT)
        self.state(
            logged_in=True, node=None, request=None, refuse=[], requests=["ACTIVE"], preempt_at=[], hosts=4,
            ssh_fails=[],
        )  # fmt: skip

    def program(self, name, text):
        """Writes an executable that the launcher finds in PATH."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def write(self, name, value):
        """Writes a JSON file of the stub."""
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps(value))
        new.replace(self.folder / name)  # atomically: the stub may be reading

    def play(self, *, steps=3, step_s=0.02, exit_codes=(), stall_at=()):
        """Sets how runs behave: see stub_python.py."""
        self.write("play.json", {"steps": steps, "step_s": step_s, "exit_codes": exit_codes, "stall_at": stall_at})

    def state(self, **changes):
        """Applies `changes` to the pod's state and returns it. Takes the stub's lock: its calls write back all keys."""
        path = self.folder / "state.json"
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = (json.loads(path.read_text()) if path.exists() else {}) | changes
            self.write("state.json", state)
        return state

    def lines(self, name):
        """Returns the lines of a JSON lines file of the stub."""
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self):
        """Returns (verb, flags and names) of each call of gcloud compute tpus."""
        calls = [args[2:] for args in self.lines("calls.jsonl") if args[0] == "compute"]
        return [(" ".join(args[:2]), args[2:]) for args in calls]

    def verbs(self):
        """Returns the verbs of the calls that create, copy or delete."""
        return [verb for verb, _ in self.calls() if "describe" not in verb and "ssh" not in verb]

    def start(self, *args, path=None, **options):
        """Starts launch/tpu_pod.sh with `args`. `options` go to Popen."""
        (self.folder / "tpu_pod.env").write_text("".join(f"{key}={value}\n" for key, value in self.env.items()))
        env = {
            "PATH": path or f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), "STUB_DIR": str(self.folder),
            "TPU_POD_POLL_S": "0.25", "TPU_POD_MAX_WAITS": "8", "TPU_POD_SETTLE_S": str(self.settle_s),
            "PYTHON": sys.executable,
        }  # fmt: skip
        command, *rest = args
        return subprocess.Popen(
            ["bash", self.checkout / "launch/tpu_pod.sh", command, "--env", self.folder / "tpu_pod.env", *rest],
            env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def do(self, *args, code=0, answer=None, **options):
        """Runs launch/tpu_pod.sh with `args`, which must exit with `code`. Returns its output and errors."""
        done = self.start(*args, stdin=subprocess.PIPE, **options)
        out, err = done.communicate(answer, timeout=60)
        assert done.returncode == code, out + err
        return out + err

    def up(self):
        """Creates and sets up a pod, by copying `ready_pod`."""
        shutil.copytree(self.ready_pod / "hosts", self.folder / "hosts", symlinks=True)
        node = json.loads((self.ready_pod / "state.json").read_text())["node"]
        self.state(node=node, request={"states": ["ACTIVE"]} if self.env["CREATE"] == "queued" else None)

    def ended(self):
        """Waits until the run has ended on every host, and returns the output of `status`."""
        until = time.monotonic() + 60  # on a busy machine
        while "running" in (output := self.do("status")):
            assert time.monotonic() < until, output
            time.sleep(0.1)
        return output

    def close(self):
        """Kills the runs on the hosts."""
        for pid in self.folder.glob("hosts/*/bert_tpu/run/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
