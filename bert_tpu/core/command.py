"""Starts a command and ends it: with 0 when done, 1 after one sentence about an error, 130 on Ctrl-C."""

import argparse
import atexit
from collections.abc import Callable, Iterator, Sequence
import contextlib
import difflib
import errno
import gc
import importlib.util
import io
import os
import re
import signal
import sys
import threading
from typing import Any, NoReturn

COMMAND_LINES = ("python -m ", "bert-tpu ")  # beginnings of paragraphs that are command lines
_name = ""  # of the command, as the user typed it; "" if by python -m MODULE


class UserError(Exception):
    """An error that the user can fix; its message is one sentence that says how."""


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps each paragraph of a description, but no command line. argparse itself joins all paragraphs."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        fill = super()._fill_text
        return "\n\n".join(p if p.startswith(COMMAND_LINES) else fill(p, width, indent) for p in paragraphs)


def set_name(name: str) -> None:
    """Sets the name that help and messages give the command that is about to run."""
    global _name
    _name = name


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError for wrong arguments, so that the command exits with 1."""

    def __init__(self, **options: Any):
        """Sets `prog` to the command as it was typed: bert-tpu NAME or python -m MODULE.

        options: of argparse.ArgumentParser. A command passes its docstring as `description`; paragraphs of it that
            begin with bert-tpu NAME begin with `prog` in the help.
        """
        spec = sys.modules["__main__"].__spec__
        # No abbreviations: --seed 7 would be --seeds 7, which are seven seeds.
        defaults: dict[str, Any] = {"formatter_class": _HelpFormatter, "allow_abbrev": False}
        if prog := _name or (spec and f"python -m {spec.name.removesuffix('.__main__')}"):
            defaults["prog"] = prog
            if "description" in options:
                own = re.compile(r"^bert-tpu [\w-]+", re.MULTILINE)
                paragraphs = options["description"].split("\n\n")
                options["description"] = "\n\n".join(
                    own.sub(prog, text) if text.startswith(COMMAND_LINES) else text for text in paragraphs
                )
        super().__init__(**defaults | options)

    def parse_known_args(  # type: ignore[override]  # typeshed declares three overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parses as argparse does, and remembers the words for `error`."""
        self._typed = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises the UserError; argparse itself would exit with 2."""
        raise UserError(f"{message}; {self._suggestion() or '--help lists the options'}")

    def _suggestion(self) -> str:
        """A question that names the option most like the first unknown one; "" if there is no such option."""
        options = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        typed = (word[2:].split("=")[0] for word in self._typed if word.startswith("--"))
        for name in typed:
            if name not in options:
                near = difflib.get_close_matches(name, options, n=1)
                return f"did you mean --{near[0]} instead of --{name}?" if near else ""
        return ""


def require(purpose: str, *packages: str, extra: str) -> None:
    """Raises UserError if a package is not installed. To be called before the work begins.

    purpose: what needs the packages, the first words of the message
    packages: import names
    extra: the optional group of packages in pyproject.toml that has them
    """
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as ./wandb, is found without an origin
            raise UserError(f"{purpose} needs {name}: pip install 'bert_tpu[{extra}]'")


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up notes out of the terminal, and Keras out; to be called before it is imported."""
    # The second setting silences a note that the first does not. The third selects an old Keras, which is absent. With
    # the last, a TensorFlow for GPUs, which only reads data here, leaves their memory to JAX.
    settings = {
        "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "TF_USE_LEGACY_KERAS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }  # fmt: skip
    os.environ.update(settings | os.environ)


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """Context for the imports of a command, at the top of its file: a third less time, and no traceback on Ctrl-C.

    Imported objects stay, so it turns garbage collection off, which would search them again and again: 0.4 s for JAX.
    Ctrl-C ends the process at once, because there is nothing to clean up yet.
    """
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        with ended_by_ctrl_c():
            yield
    finally:
        gc.freeze()
        if is_enabled:
            gc.enable()


@contextlib.contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Context in which Ctrl-C ends the process at once, also within a library's long call, where Python would wait.

    It is for work that leaves nothing to clean up.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()  # no other thread may set a handler
    if is_main and handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)


def wait_for(wait: Callable[[], object], terminate: Callable[[], None]) -> None:
    """Waits until a child process ends. SIGTERM and Ctrl-C end the child, not this process, so that a training saves.

    wait: returns when the child has ended
    terminate: sends SIGTERM to the child
    """
    before = signal.signal(signal.SIGTERM, lambda *_: terminate())
    try:
        while True:
            try:
                wait()
                return
            except KeyboardInterrupt:
                continue  # the terminal has sent Ctrl-C to the child, too
    finally:
        signal.signal(signal.SIGTERM, before)


def run(main: Callable[[], None]) -> None:
    """Calls `main`; an error of the user or of the disk becomes one line on stderr and exit 1.

    Any other exception is a bug of ours and keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a name or a text may have what the terminal does not
    if os.environ.get("MPLBACKEND", "").startswith("module://"):
        del os.environ["MPLBACKEND"]  # a notebook's way to show plots, which a command's environment may lack
    gc.set_threshold(20_000)  # new objects before a collection; at Python's 700, a start takes 7% longer by tracing
    try:
        main()
    except BrokenPipeError:  # the reader of our output has closed it, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError) as error:
        sys.exit(f"error: {sentence(error)}")  # a string: printed on stderr, status 1
    except Exception as error:
        if path := _unknown_store(error):
            sys.exit(f"error: {path} cannot be read here: give a path of this machine or of a bucket, gs://")
        raise
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        _end_now(130)
    finally:
        gc.freeze()  # else Python collects all objects once more as it ends, which takes a second


def _end_now(code: int) -> NoReturn:
    """Ends this process and its daemons without waiting for threads.

    XLA's threads may be compiling. Python would wait for them, and XLA sometimes aborts if its objects go meanwhile.
    """
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            if child.daemon:
                child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader has closed it
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def whole_process() -> Iterator[None]:
    """Context for a command in a process of multiprocessing: the process ends as Python ends one of its own.

    Python waits for the threads and calls what atexit has registered; multiprocessing may leave both out.
    """
    try:
        yield
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def _unknown_store(error: Exception) -> str:
    """The path that an error of epath or TensorFlow is about, if they do not know its scheme://; "" otherwise."""
    if by_tensorflow := re.match(r"File system scheme '.*' not implemented \(file: '(.*)'\)", str(error)):
        return by_tensorflow[1]
    if isinstance(error, KeyError) and str(error.args[0]).endswith("://"):
        return str(error.args[0])
    return ""


def sentence(error: UserError | OSError) -> str:
    """One line that says what is wrong, names the file if there is one, and says how to fix it."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    name = error.filename or "a file"
    match error.errno:
        case errno.ENOENT:
            return f"{name} does not exist; check the path"
        case errno.EACCES | errno.EPERM:
            return f"{name} may not be read or written; check its owner and permissions"
        case errno.EISDIR:
            return f"{name} is a directory where a file is needed; name a file"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{name} is a file where a directory is needed; name another path"
        case errno.ENOSPC | errno.EDQUOT:
            return f"the disk is full ({name}); free some space and run the same command again"
    return f"{error.strerror or error} ({name})"
