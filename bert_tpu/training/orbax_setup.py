"""Setup of Orbax: which host writes an array, what it prints, and the reasons of its faults in a few words."""

import functools
import logging
import os
import re
import sys

import jax
import orbax.checkpoint as ocp


@functools.cache
def register_array_handler() -> None:
    """Makes Orbax write arrays that all devices have whole from one host.

    Large arrays are cut over the devices already. To cut the small ones too, so that all hosts may write them, Orbax
    would compile a program for each shape at the first save.
    """
    logging.disable(logging.WARNING)  # Orbax warns that its default handler is replaced, as is intended
    ocp.type_handlers.register_type_handler(
        jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False), override=True
    )
    logging.disable(logging.NOTSET)


def reason(fault: Exception) -> str:
    """Returns Orbax's or TensorStore's message about a fault in a few words."""
    number = re.search(r"os_error_code='(\d+)'", str(fault))  # TensorStore writes errno at the end of its message
    if number:
        return os.strerror(int(number[1]))
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0][:300]


def quiet() -> None:
    """Stops Orbax from printing, until the process ends: its faults are the exceptions that it raises."""
    # It also logs the traceback of each of them.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # When one array fails, each of the others complains that the event loop is closed.
    print_fault = sys.unraisablehook
    sys.unraisablehook = lambda fault: None if "Event loop is closed" in str(fault.exc_value) else print_fault(fault)
