"""How the processes of a run find each other: the environment tells of them, JAX's coordination service connects."""

import contextlib
import ctypes
import functools
import os

import jax
from jax._src import distributed  # the store has no public name; Orbax reaches for it in the same way

from bert_tpu.core import command
from bert_tpu.distributed import hosts

COORDINATOR, COUNT, INDEX = ENVIRONMENT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
CONNECT_S = 300  # a pod's hosts start minutes apart where one of them has software to fetch
# JAX's own heartbeat ends a process with a C++ stack and no host's name; it is left as the last resort.
HEARTBEAT_S = 900


def connect(timeout_s=CONNECT_S):
    """The Hosts that the environment tells of, all connected; where it tells of none, this process alone.

    To be called before JAX has touched a device. Raises UserError for half an environment and for hosts that do not
    come within `timeout_s`.
    """
    address, *numbers = (os.environ.get(name, "") for name in ENVIRONMENT)
    if not any((address, *numbers)):
        return hosts.Hosts()
    if missing := [name for name in ENVIRONMENT if not os.environ.get(name)]:
        raise command.UserError(f"{' and '.join(missing)} not set beside the others of {', '.join(ENVIRONMENT)}: set "
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
    if jax.config.jax_platforms == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    group = hosts.Hosts(index, count)
    with _told_of_a_lost_coordinator(group.lost):
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
def _told_of_a_lost_coordinator(lost):
    """A client made meanwhile calls `lost` when host 0's service breaks off, instead of aborting with a C++ stack.

    The client would hand a callback a status that Python has no type for (jaxlib 0.10.2): the exception of that ends
    in std::terminate, which is therefore `lost` as well.
    """
    terminate = ctypes.CFUNCTYPE(None)(lost)
    lost.__self__.kept = terminate  # ctypes holds no reference
    with contextlib.suppress(OSError, AttributeError):  # of another C++ library: then JAX's own words must do
        ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE(terminate)
    make = distributed._jax.get_distributed_runtime_client
    distributed._jax.get_distributed_runtime_client = functools.partial(make, missed_heartbeat_callback=lost)
    try:
        yield
    finally:
        distributed._jax.get_distributed_runtime_client = make
