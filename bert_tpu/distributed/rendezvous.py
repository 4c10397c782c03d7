"""Connects the processes of a run: the environment names them, and JAX's coordination service connects them."""

from collections.abc import Iterator
import contextlib
import ctypes
import functools
import os

import jax
from jax._src import distributed  # the store has no public name; Orbax reaches for it in the same way

from bert_tpu.core import command
from bert_tpu.distributed import hosts

COORDINATOR, COUNT, INDEX = ENVIRONMENT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
CONNECT_S = 300  # a pod's hosts start minutes apart if one of them has software to fetch
# JAX's own heartbeat ends a process with a C++ stack and without a host's name, so it is left as the last resort.
HEARTBEAT_S = 900


def connect(timeout_s: int = CONNECT_S) -> hosts.Hosts:
    """Returns the Hosts that the environment names, all connected; this process alone if it names none.

    Must be called before JAX touches a device. Raises UserError for an incomplete environment and for hosts that do
    not come within `timeout_s` seconds.
    """
    address, *numbers = (os.environ.get(name, "") for name in ENVIRONMENT)
    if not any((address, *numbers)):
        return hosts.Hosts()
    if missing := [name for name in ENVIRONMENT if not os.environ.get(name)]:
        raise command.UserError(f"{' and '.join(missing)} not set, unlike the others of {', '.join(ENVIRONMENT)}: set "
                                "all three for a run of several hosts, or none")  # fmt: skip
    if not all(number.isdecimal() for number in numbers) or not int(numbers[1]) < int(numbers[0]):
        raise command.UserError(f"{COUNT}={numbers[0]} and {INDEX}={numbers[1]}: give whole numbers, 0 <= the second "
                                "< the first")  # fmt: skip
    if not address.rpartition(":")[2].isdecimal():
        raise command.UserError(f"{COORDINATOR}={address} has no port: give HOST:8476")
    count, index = map(int, numbers)
    if count == 1:
        return hosts.Hosts()
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    if jax.config.jax_platforms == "cpu":  # type: ignore[attr-defined]  # JAX adds it as it is imported
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    group = hosts.Hosts(index, count)
    with _ends_when_host_0_is_lost(group):
        try:
            jax.distributed.initialize(
                address, count, index, initialization_timeout=timeout_s, heartbeat_timeout_seconds=HEARTBEAT_S,
                shutdown_timeout_seconds=30, cluster_detection_method="deactivate",
            )  # fmt: skip
        except RuntimeError as fault:
            distributed.global_state.client = None  # else it complains once more when the process ends
            raise command.UserError(
                f"host {index} of {count} did not meet the others at {address} within {timeout_s} s: check that every "
                "host was started, with the same address, and reaches that port of host 0"
            ) from fault
    group.store = distributed.global_state.client
    return group


@contextlib.contextmanager
def _ends_when_host_0_is_lost(group: hosts.Hosts) -> Iterator[None]:
    """Makes a client that is created in this context end the process when host 0 is gone, without a C++ stack.

    The client would pass its callback a status that Python has no type for (jaxlib 0.10.2). The exception from that
    ends in std::terminate, so `group.end_without_host_0` is the handler of that as well.
    """
    group.terminate_handler = ctypes.CFUNCTYPE(None)(group.end_without_host_0)
    with contextlib.suppress(OSError, AttributeError):  # of another C++ library: then JAX's own message must do
        ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE(group.terminate_handler)
    make = distributed._jax.get_distributed_runtime_client
    ends = functools.partial(make, missed_heartbeat_callback=group.end_without_host_0)
    distributed._jax.get_distributed_runtime_client = ends
    try:
        yield
    finally:
        distributed._jax.get_distributed_runtime_client = make
