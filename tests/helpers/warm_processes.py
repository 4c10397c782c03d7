"""Processes of our commands that are copies of one that has imported JAX, TensorFlow and PyTorch already.

`start` takes the place of subprocess.Popen([sys.executable, "-m", module, *words]). A copy runs the module from its
first line, as `python -m` does. It starts in 0.02 s; all that a run imports takes 3 s of a core (measured on an x86_64
with AVX-512). tests/test_house.py tests what a process imports by itself.
"""

import multiprocessing
from multiprocessing import forkserver, reduction
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import warnings

from bert_tpu.core import command

ROOT = pathlib.Path(__file__).parent.parent.parent
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.helpers.preloaded"])


class Descriptor:
    """An open file that a new process gets a copy of."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _detach, (reduction.DupFd(self.number),)


def _detach(copy):
    return copy.detach()


class Process:
    """A running copy, with the part of subprocess.Popen that the tests use."""

    def __init__(self, process, stdout, stderr):
        self._process, self.stdout, self.stderr, self.pid = process, stdout, stderr, process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()


def begin():
    """Starts the process that is copied: from the root of the repository, where it finds its imports."""
    before = os.getcwd()
    os.chdir(ROOT)
    forkserver.ensure_running()
    os.chdir(before)


def start(module, words, *, env=None, cwd=ROOT, stdout=None, stderr=None) -> Process:
    """Runs `module` as `python -m module words`; module may be a script's path. stdout, stderr: as Popen takes them."""
    begin()
    ends, descriptors = [], []
    for number, target in ((1, stdout), (2, stderr)):
        end = None
        if target == subprocess.PIPE:
            end, descriptor = os.pipe()
            end = os.fdopen(end, encoding="utf-8")
        elif target == subprocess.STDOUT:
            descriptor = os.dup(descriptors[0])
        elif target == subprocess.DEVNULL:
            descriptor = os.open(os.devnull, os.O_WRONLY)
        else:
            descriptor = os.dup(number if target is None else target if isinstance(target, int) else target.fileno())
        ends.append(end)
        descriptors.append(descriptor)
    arguments = str(module), list(map(str, words)), dict(env or os.environ), str(cwd), *map(Descriptor, descriptors)
    process = CONTEXT.Process(target=_become, args=arguments)
    process.start()
    for descriptor in descriptors:
        os.close(descriptor)
    return Process(process, *ends)


def run(module, words, **options) -> subprocess.CompletedProcess:
    """Runs a copy to its end; its output is text."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = start(module, words, stdout=out, stderr=err, **options).wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess([module, *words], code, *texts)


def _become(module, words, env, cwd, stdout, stderr):
    """Runs the module in this process, a copy, with that environment and folder."""
    import jax

    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    warnings.resetwarnings()
    for name in ("jax_platforms", "jax_compilation_cache_dir"):  # JAX has read those of the process that is copied
        jax.config.update(name, os.environ.get(name.upper()))
    if hub := sys.modules.get("huggingface_hub.constants"):  # the same
        hub.HF_HUB_OFFLINE = os.environ.get("HF_HUB_OFFLINE") == "1"
        hub.HF_HUB_DISABLE_XET = os.environ.get("HF_HUB_DISABLE_XET") == "1"
    is_script = module.endswith(".py")
    tests = str(ROOT / "tests")
    installed = [path for path in sys.path if path not in ("", str(ROOT)) and not path.startswith(tests)]
    own = [str(pathlib.Path(module).parent) if is_script else cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*filter(None, own), *installed]
    sys.argv = [module, *words]
    with command.whole_process():
        if is_script:
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
