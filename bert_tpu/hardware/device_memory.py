"""Turns XLA's out-of-memory errors into a UserError that says how to fix them."""

from collections.abc import Iterator
import contextlib
import re

import jax

from bert_tpu.core import command
from bert_tpu.hardware import chips


@contextlib.contextmanager
def explain_shortage(advice: str) -> Iterator[None]:
    """Raises a UserError that ends with `advice` if the block's program needs more memory than a device has.

    The compiler for TPUs detects this before the program runs, and lists a page of buffers. A CPU detects it while the
    program runs.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_shortage(error):
            raise
        needed, available = needed_and_available(str(error))
        figures = ""
        if needed is not None and available is not None:
            figures = f": a program needs {needed / chips.GIB:.2f} GiB of {available / chips.GIB:.2f}"
        raise command.UserError(f"a device's memory is too small{figures}; {advice}") from None


def is_shortage(error: Exception) -> bool:
    """Returns whether XLA raised `error` because a device has too little memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED")


def needed_and_available(message: str) -> tuple[int, int] | tuple[None, None]:
    """Bytes of HBM (needed, available), from the TPU compiler's message; (None, None) for another message."""
    size = r"([\d.]+)([KMG])"
    for form in (rf"Used {size} of {size} hbm", rf"required for HLO temporaries \({size}\) exceeds.*?\({size}\)"):
        if match := re.search(form, message):
            needed, available = (round(float(match[i]) * 1024 ** " KMG".index(match[i + 1])) for i in (1, 3))
            return needed, available
    return None, None
