"""Processes of our commands that need not import TensorFlow and JAX each time: copies of one that has done so.

`start` takes the place of subprocess.Popen([sys.executable, "-m", module, *words]). What a copy runs is the module as
`python -m` would run it, from its first line; only what it imports is there already. Importing itself is tested by
tests/test_house.py, in processes that begin with nothing.
"""

import atexit
import ctypes
import functools
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Process:
    """A copy that runs, with as much of subprocess.Popen as the tests use."""

    def __init__(self, pid, stdout, stderr):
        self.pid, self.stdout, self.stderr, self.returncode = pid, stdout, stderr, None

    def poll(self):
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        until_s = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > until_s:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


def start(module, words, *, env=None, cwd=ROOT, stdout=None, stderr=None) -> Process:
    """Runs `module` as `python -m module words`; module may be a script's path. stdout, stderr: as Popen has them."""
    ends, handed = [], []
    for number, given in ((1, stdout), (2, stderr)):
        end = None
        if given == subprocess.PIPE:
            end, descriptor = os.pipe()
            end = os.fdopen(end, encoding="utf-8")
        elif given == subprocess.DEVNULL:
            descriptor = os.open(os.devnull, os.O_WRONLY)
        else:
            descriptor = os.dup(number if given is None else given if isinstance(given, int) else given.fileno())
        ends.append(end)
        handed.append(descriptor)
    request = {"module": str(module), "words": [str(word) for word in words], "env": dict(env or os.environ)}
    server = _server()
    socket.send_fds(server, [json.dumps(request | {"cwd": str(cwd)}).encode()], handed)
    for descriptor in handed:
        os.close(descriptor)
    return Process(int(server.recv(32)), *ends)


def run(module, words, **options) -> subprocess.CompletedProcess:
    """Runs it to its end; what it said is text."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = start(module, words, stdout=out, stderr=err, **options).wait()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    return subprocess.CompletedProcess([module, *words], code, *said)


@functools.cache
def _server():
    """The socket of this process' own server, which ends when the socket closes."""
    # Its copies, whose parent ends at once, become children of this process, which can then wait for them.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, os.path.abspath(__file__), str(theirs.fileno())]
        server = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": ROOT}, pass_fds=[theirs.fileno()])
    atexit.register(lambda: (ours.close(), server.wait()))
    return ours


def serve(asked):
    """Answers requests until nobody is left to ask; returns in each copy with what it shall run."""
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX's own; it has no thread yet
    while True:
        message, descriptors, *_ = socket.recv_fds(asked, 1 << 20, 2)
        if not message:
            sys.exit()
        told, tell = os.pipe()
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            asked.send(os.read(told, 32))  # not before the copy is the asker's child
            for descriptor in (told, tell, *descriptors):
                os.close(descriptor)
            continue
        copy = os.fork()
        if copy:
            os.write(tell, str(copy).encode())
            os._exit(0)
        for descriptor in (told, tell, asked.detach()):
            os.close(descriptor)
        for number, descriptor in zip((1, 2), descriptors, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        return json.loads(message)


def main():
    """Imports what the commands do, waits, and is, in a copy, the command."""
    gc.disable()
    # Not the commands themselves: a module runs from its first line as __main__.
    import bert_tpu.beside
    import bert_tpu.data
    import bert_tpu.export
    import bert_tpu.prepare
    import bert_tpu.replay  # noqa: F401

    gc.freeze()  # no copy looks through what all have in common
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    warnings.resetwarnings()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = [asked["module"], *asked["words"]]
    if asked["module"].endswith(".py"):
        gc.enable()  # as a command of ours does by itself
        sys.path[0] = os.path.dirname(os.path.abspath(asked["module"]))
        runpy.run_path(asked["module"], run_name="__main__")
    else:
        sys.path[0] = asked["cwd"]
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
