"""Several starts of one comparison, as on the cores or GPUs of a machine: each trains runs that no other start has."""

from collections.abc import Iterator, Sequence
import contextlib
import pathlib
import time

from bert_tpu.core import command, locks, storage

FILE = "compared.toml"  # in OUT: a copy of the experiment's file
LOCK, TAKEN = ".lock", ".taken"  # in OUT, and in a run's workdir
TRIES, PAUSE_S = 100, 0.1


@contextlib.contextmanager
def join(out: pathlib.Path, content: str) -> Iterator[None]:
    """Reserves `out` for starts with this `content` of the experiment's file, and copies it to FILE.

    Raises UserError if a start with another content is at work.
    """
    for _ in range(TRIES):
        with locks.hold(out / LOCK) as is_alone:
            if is_alone:
                storage.write_text(out / FILE, content)
        with locks.hold(out / LOCK, shared=True) as is_shared:
            # While this start shares the lock, no other one is alone and writes FILE.
            if is_shared:
                if (out / FILE).read_text(encoding="utf-8") != content:
                    break
                yield
                return
        time.sleep(PAUSE_S)
    raise command.UserError(f"another comparison is using {out}: stop it or give another --out")


@contextlib.contextmanager
def take(workdirs: Sequence[pathlib.Path], result: str) -> Iterator[int | None]:
    """Reserves the first workdir without a file named `result` that no other start has; gives its place, or None."""
    for place, directory in enumerate(workdirs):
        directory.mkdir(parents=True, exist_ok=True)
        with locks.hold(directory / TAKEN) as is_free:
            if is_free and not (directory / result).exists():
                yield place
                return
    yield None
