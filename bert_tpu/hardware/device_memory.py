"""What is said where a device's memory is too small for a program."""

import contextlib
import re

import jax

from bert_tpu.core import command
from bert_tpu.hardware import chips


@contextlib.contextmanager
def explain_shortage(mend: str):
    """Within it a program that asks for more memory than there is raises a UserError, which ends with `mend`.

    The compiler for TPUs finds it out beforehand and lists a page of buffers; a CPU finds it out as the program runs.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as fault:
        if not str(fault).startswith("RESOURCE_EXHAUSTED"):
            raise
        needed, there = needed_and_available(str(fault))
        figures = f": a program needs {needed / chips.GIB:.2f} GiB of {there / chips.GIB:.2f}" if needed else ""
        raise command.UserError(f"a device's memory is too small{figures}; {mend}") from None


def needed_and_available(said: str) -> tuple[int | None, int | None]:
    """(bytes needed, bytes there) of a compiler's message that HBM is too small; (None, None) of another one."""
    size = r"([\d.]+)([KMG])"
    for form in (rf"Used {size} of {size} hbm", rf"required for HLO temporaries \({size}\) exceeds.*?\({size}\)"):
        if found := re.search(form, said):
            return tuple(round(float(found[i]) * 1024 ** " KMG".index(found[i + 1])) for i in (1, 3))
    return None, None
