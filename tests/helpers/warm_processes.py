"""Processes of our commands that need not import TensorFlow and JAX each time: copies of one that has done so.

`start` takes the place of subprocess.Popen([sys.executable, "-m", module, *words]). What a copy runs is the module as
`python -m` would run it, from its first line; only what it imports is there already. Importing itself is tested by
tests/test_house.py, in processes that begin with nothing. One server makes the copies of a whole session, its workers
too: `python -IS tests/helpers/warm_processes.py WORD...` is `python WORD...` for whoever asks by command line.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ADDRESS = "BERT_TPU_TESTS_WARM"  # in the environment: the server's socket
ALONE = "-uBIS"  # options of Python's that have no word of their own; a copy has been started without them


class Process:
    """A copy that runs, with as much of subprocess.Popen as the tests use."""

    def __init__(self, asked, stdout, stderr):
        self._asked, self.stdout, self.stderr, self.returncode = asked, stdout, stderr, None
        self.pid = int(asked.recv(32))

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            self._asked.settimeout(timeout)
            try:
                self.returncode = int(self._asked.recv(32))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout) from None
            self._asked.close()
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
    ends, handed = [], [os.open(os.devnull, os.O_RDONLY)]
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
    before = [] if str(module).endswith(".py") else ["-m"]
    asked = _ask([*before, str(module), *map(str, words)], dict(env or os.environ), str(cwd), handed)
    for descriptor in handed:
        os.close(descriptor)
    return Process(asked, *ends)


def run(module, words, **options) -> subprocess.CompletedProcess:
    """Runs it to its end; what it said is text."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = start(module, words, stdout=out, stderr=err, **options).wait()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    return subprocess.CompletedProcess([module, *words], code, *said)


def begin():
    """Starts the server, unless somebody has; it ends with this process. What is started from here on can ask it."""
    if ADDRESS in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="bert_tpu-warm-")
    os.environ[ADDRESS] = os.path.join(folder, "socket")
    with open(_python(), "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexport {ADDRESS}="{os.environ[ADDRESS]}"\n')
        file.write(f'exec "{sys.executable}" -IS "{os.path.abspath(__file__)}" "$@"\n')
    os.chmod(_python(), 0o755)
    ours, theirs = socket.socketpair()
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(os.environ[ADDRESS])
        listening.listen(64)
        handed = [listening.fileno(), theirs.fileno()]
        command = [sys.executable, os.path.abspath(__file__), "serve", *map(str, handed)]
        server = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": ROOT}, pass_fds=handed)

    def end():
        ours.close()
        server.kill()  # it may be importing still
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)


def _python():
    """The program that is `python` as a copy."""
    return os.path.join(os.path.dirname(os.environ[ADDRESS]), "python")


def _ask(words, env, cwd, descriptors):
    """The connection to the server: it says the copy's number, and at its end the exit code as Popen has it."""
    begin()
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.connect(os.environ[ADDRESS])
    socket.send_fds(asked, [json.dumps({"words": words, "env": env, "cwd": cwd}).encode()], descriptors)
    return asked


def serve(listening, life):
    """Answers until the first process of the session has ended; returns in each copy with what it shall run."""
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX's own; it has no thread yet
    ended, tell = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    running, events = {}, selectors.DefaultSelector()
    for file in (listening, life, ended):
        events.register(file, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is life:
                os._exit(0)
            if key.fileobj == ended:
                os.read(ended, 4096)
                _reap(running)
                continue
            asker, _ = listening.accept()
            message, descriptors, *_ = socket.recv_fds(asker, 1 << 20, 3)
            copy = os.fork()
            if not copy:
                _part((events, asker, listening, life, *running.values()), (ended, tell), descriptors)
                return json.loads(message)
            running[copy] = asker
            with contextlib.suppress(OSError):  # who may be gone himself
                asker.send(str(copy).encode())
            for descriptor in descriptors:
                os.close(descriptor)


def _part(files, ends, descriptors):
    """Takes a copy from the server: its open files are closed, and `descriptors` are input, output and error output."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for file in files:
        file.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for descriptor in (*ends, *descriptors):
        os.close(descriptor)


def _reap(running):
    """Tells the askers of all copies that have ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as asker, contextlib.suppress(OSError):
            asker.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(asked):
    """Runs in this process, a copy, what `python WORD...` would run in that environment and folder."""
    import jax

    program = _python()
    warnings.resetwarnings()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    for name in ("jax_platforms", "jax_compilation_cache_dir"):  # JAX has read the server's
        jax.config.update(name, os.environ.get(name.upper()))
    words = asked["words"]
    while words[0].startswith("-") and not words[0].strip(ALONE):
        words = words[1:]
    here = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:2] = ["", *filter(None, here)]  # instead of tests/ and the server's PYTHONPATH
    if words[0] == "-c":  # a worker, whose tests may ask for a process that begins with nothing
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
        return
    sys.executable = program  # what a command starts is a copy too
    if words[0] == "-m":
        sys.path[0], sys.argv = asked["cwd"], words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        gc.enable()  # as a command of ours does by itself
        sys.path[0], sys.argv = os.path.dirname(os.path.abspath(words[0])), words
        runpy.run_path(words[0], run_name="__main__")


def become_and_end(asked):
    """`become`, and then the end of this process as Python would bring it about, but quicker."""
    code = 0
    try:
        become(asked)
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    # Python would take all modules apart now, and so write on most pages that a copy shares: half a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# Python 3.11 maps the stack of its frames in pieces of 16 KiB and unmaps each that is left: a loop that calls across an
# edge takes 7 us a call, and did so for half of the suite's page faults. A frame of half a megabyte has the other half
# of its piece for those above it, which then cross no edge.
become_and_end.__code__ = become_and_end.__code__.replace(co_stacksize=70_000)


def main():
    """The server, which imports what the commands and the tests do, waits, and is, in a copy, the command."""
    gc.disable()
    # Not the commands themselves: a module runs from its first line as __main__.
    import onnxscript
    import transformers.models.bert.modeling_bert

    import bert_tpu.corpus.prepare
    import bert_tpu.data.corpus_batches
    import bert_tpu.export.pytorch
    import bert_tpu.training.hooks
    import bert_tpu.training.replay

    del bert_tpu, onnxscript, transformers  # imported: all that is asked of them here
    gc.freeze()  # no copy looks through what all have in common
    become_and_end(serve(*(socket.socket(fileno=int(number)) for number in sys.argv[2:])))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        main()
    else:
        asked = _ask(sys.argv[1:], dict(os.environ), os.getcwd(), [0, 1, 2])
        copy = Process(asked, None, None)
        signal.signal(signal.SIGTERM, lambda *_: copy.terminate())
        code = copy.wait()
        sys.exit(code if code >= 0 else 128 - code)
