"""How a command ends: 0 when done, 1 with one sentence about a fault, 130 on Ctrl-C."""

import argparse
from collections.abc import Callable
import difflib
import errno
import gc
import importlib.util
import os
import signal
import sys


class UserError(Exception):
    """A fault that the user can mend; its message is one sentence that says how."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, so that they too exit with 1."""

    def __init__(self, **options):
        """`usage:` shows the command as it is typed, python -m MODULE, as Python 3.14 does of itself."""
        spec = sys.modules["__main__"].__spec__
        super().__init__(**({"prog": f"python -m {spec.name.removesuffix('.__main__')}"} if spec else {}) | options)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does it, which leaves what was typed for `error`."""
        self._typed = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        """Raises the UserError; argparse itself would exit with 2."""
        raise UserError(f"{message}; {self._nearest() or '--help lists the options'}")

    def _nearest(self):
        """The question whether another option was meant, where one was typed that is not there."""
        options = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        typed = (word[2:].split("=")[0] for word in self._typed if word.startswith("--"))
        for name in typed:
            if not any(option.startswith(name) for option in options):  # argparse takes a beginning for the whole
                near = difflib.get_close_matches(name, options, n=1)
                return f"did you mean --{near[0]} instead of --{name}?" if near else ""
        return ""


def require(what: str, *packages: str, extra: str) -> None:
    """Raises UserError if a package is not installed: better before the work than after it.

    what: the thing that needs the packages, as the sentence names it.
    packages: import names.
    extra: the optional group of packages in pyproject.toml that has them.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{what} needs {name}: python -m pip install -e '.[{extra}]' -c constraints.txt")


def quiet_tensorflow():
    """Keeps TensorFlow's start-up notes out of the terminal, and Keras out; to be called before it is imported."""
    # The second setting silences a note that the first does not; the third names an old Keras, which is not there.
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "TF_USE_LEGACY_KERAS": "1"}
    os.environ.update(settings | os.environ)


def collect_garbage():
    """From here on Python looks for garbage, but never again through what is there by now: all that was imported."""
    gc.freeze()
    # New objects before it looks: tracing makes many that stay, and at Python's 700 a start is 7% dearer.
    gc.set_threshold(20_000)
    gc.enable()


def run(main: Callable[[], None]) -> None:
    """Calls `main`; a fault of the user or of the disk becomes one line on stderr and exit 1.

    Any other exception is a bug of ours and keeps its traceback.
    """
    collect_garbage()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # while it was imported: see bert_tpu/__init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except BrokenPipeError:  # whoever read our output has enough, `| head` for one
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError) as fault:
        sys.exit(f"error: {sentence(fault)}")  # a string: printed on stderr, status 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    finally:
        gc.freeze()  # Python would look through all that there is once more, for a second, before it ends


def sentence(fault: UserError | OSError) -> str:
    """One line that names the fault, the file where there is one, and the mend."""
    if isinstance(fault, UserError):
        return " ".join(str(fault).split())
    name = fault.filename or "a file"
    match fault.errno:
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
    return f"{fault.strerror or fault} ({name})"
