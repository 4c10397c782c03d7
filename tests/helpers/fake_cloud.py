"""A pod to launch in tests: the working tree as a checkout, a stub gcloud first in PATH, and folders as hosts."""

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
WORDS = ("--", "--config", "configs/bert.py:medium", "--workdir", "gs://my-bucket/runs/medium")
REPORT = {
    "host": "HOST", "name": "t", "python": "3.11.9", "port": {"skew_s": 0.0}, "commit": "c0ffee", "corpus": None,
    "versions": {"jax": ["0.10.2", "0.10.2"]}, "disk_gib": 90, "memory_gib": 190,
    "devices": {"platform": "tpu", "kind": "TPU v5 lite", "count": 4},
    "bucket": {"write_mb_s": 90, "read_mb_s": 200}, "tensorflow": {"packages": ["tensorflow-cpu"], "devices": ["CPU"]},
}  # fmt: skip


def checkout(repo):
    """`repo`, now a git checkout of what is shipped: the tests run the working tree, committed or not."""
    for name in SHIPPED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, repo / name)
    git = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "All"], check=True)
    return repo


def wait_for(condition):
    """Returns what `condition` returns once that is true."""
    until = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return value


class Cloud:
    """The stub's folder, and the launcher run against it."""

    def __init__(self, checkout, folder, standing=None):
        self.checkout, self.folder, self.bin, self.standing = checkout, folder, folder / "bin", standing
        self.bin.mkdir()
        python = f"#!{sys.executable} -IS\n"
        self.program("gcloud", python + (ROOT / "tests/helpers/stub_gcloud.py").read_text())
        self.program("python-stand-in", python + (ROOT / "tests/helpers/stub_python.py").read_text())
        copy = f'mkdir -p "$d/bin" && cp {self.bin}/python-stand-in "$d/bin/python"'
        self.program(
            "uv", f'#!/bin/sh\necho "$@" >>{folder}/uv.log\n[ $1 = pip ] || {{ for d; do :; done; {copy}; }}\n'
        )
        self.env = ENV
        self.play()
        self.write("doctor.json", REPORT)
        self.state(
            logged_in=True, node=None, request=None, refuse=[], requests=["ACTIVE"], preempt_at=[], hosts=4,
            ssh_fails=[],
        )  # fmt: skip

    def program(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def write(self, name, value):
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps(value))
        new.replace(self.folder / name)  # in one step: the stub may read

    def play(self, *, steps=3, step_s=0.02, die=(), holds=()):
        self.write("play.json", {"steps": steps, "step_s": step_s, "die": die, "holds": holds})

    def state(self, **changes):
        """The pod's state, changed: with the stub's lock, whose calls keep all that they have read."""
        path = self.folder / "state.json"
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = (json.loads(path.read_text()) if path.exists() else {}) | changes
            self.write("state.json", held)
        return held

    def lines(self, name):
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self):
        """Of the TPU commands: (verb, flags and names)."""
        found = [words[2:] for words in self.lines("calls.jsonl") if words[0] == "compute"]
        return [(" ".join(words[:2]), words[2:]) for words in found]

    def verbs(self):
        return [verb for verb, _ in self.calls() if "describe" not in verb and "ssh" not in verb]

    def start(self, *words, path=None, **options):
        (self.folder / "tpu_pod.env").write_text("".join(f"{key}={value}\n" for key, value in self.env.items()))
        env = {
            "PATH": path or f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), "STUB_DIR": str(self.folder),
            "TPU_POD_POLL_S": "0.25", "TPU_POD_SETTLE_S": "0.3", "PYTHON": sys.executable,
        }  # fmt: skip
        command, *rest = words
        return subprocess.Popen(
            ["bash", self.checkout / "launch/tpu_pod.sh", command, "--env", self.folder / "tpu_pod.env", *rest],
            env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def do(self, *words, code=0, answer=None, **options):
        """Runs a command to its end; its output and messages."""
        done = self.start(*words, stdin=subprocess.PIPE, **options)
        out, err = done.communicate(answer, timeout=60)
        assert done.returncode == code, out + err
        return out + err

    def up(self):
        """A pod that is created and set up: a copy of one that was."""
        shutil.copytree(self.standing / "hosts", self.folder / "hosts", symlinks=True)
        node = json.loads((self.standing / "state.json").read_text())["node"]
        self.state(node=node, request={"states": ["ACTIVE"]} if self.env["CREATE"] == "queued" else None)

    def ended(self):
        """Waits until no host runs."""
        until = time.monotonic() + 20
        while "running" in (said := self.do("status")):
            assert time.monotonic() < until, said
            time.sleep(0.1)
        return said

    def close(self):
        """Ends what still runs on the hosts."""
        for pid in self.folder.glob("hosts/*/bert_tpu/run/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
