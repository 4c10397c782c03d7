"""Checks one host of a pod while all others do the same, and prints a line of JSON for launch/doctor_report.py.

    python launch/doctor.py --host I --hosts N --coordinator ADDRESS:PORT --bucket gs://B [--corpus DIR]

A failed check is reported as {"fault": "a sentence"}; the exit code is 0 all the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import concurrent.futures
import contextlib
import gc
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import Any, TextIO
import uuid

SCRIPT = pathlib.Path(__file__).resolve()
ROOT = SCRIPT.parent.parent
PAYLOAD = 8 << 20  # bytes; large enough that bandwidth, not the round trip, determines the figure
ROUNDS = 8  # exchanges with worker 0; the quickest measures the clocks' difference best
CHILD_CHECKS = ("devices", "bucket", "tensorflow")  # they may hang, or take a device for themselves


def main() -> None:
    """Prints the report of all checks, or with --only the result of one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--host", type=int, required=True, help="number of this host")
    parser.add_argument("--hosts", type=int, required=True, help="number of hosts of the pod")
    parser.add_argument("--coordinator", required=True, help="ADDRESS:PORT of worker 0")
    parser.add_argument("--bucket", required=True, help="bucket to write to, gs://B")
    parser.add_argument("--corpus", help="folder of the prepared corpus on this host")
    parser.add_argument("--wait_s", type=float, default=60, help="seconds to wait for the other hosts")
    parser.add_argument("--pins", type=pathlib.Path, default=ROOT, help="folder of requirements and constraints")
    parser.add_argument("--only", choices=CHILD_CHECKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        gc.disable()  # a child imports, answers and ends; garbage collection would take a sixth of its time
    checks = {"devices": read_devices, "bucket": lambda: measure_bucket(args), "tensorflow": read_tensorflow}
    print(json.dumps(run_check(checks[args.only]) if args.only else report(args)))


def report(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the results of all checks of this host. The port is first, because the other hosts wait for it."""
    port = run_check(lambda: check_port(args))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        children = {name: pool.submit(run_in_child, name) for name in CHILD_CHECKS}
        return {
            "host": args.host,
            "name": socket.gethostname(),
            "python": platform.python_version(),
            "port": port,
            "commit": run_check(lambda: (ROOT / "COMMIT").read_text().strip()),
            "versions": run_check(lambda: read_versions(args.pins)),
            "disk_gib": round(shutil.disk_usage(pathlib.Path.home()).free / 2**30, 1),
            "memory_gib": run_check(free_memory_gib),
            "corpus": run_check(lambda: corpus_hash(args.corpus)) if args.corpus else None,
            **{name: child.result() for name, child in children.items()},
        }


def run_check(check: Callable[[], Any]) -> Any:
    """Returns the result of `check`, or {"fault": one line} if it raises."""
    try:
        return check()
    except FileNotFoundError as fault:
        return {"fault": f"{fault.filename or fault} is missing"}
    except Exception as fault:  # any fault at all belongs into the report
        lines = str(fault).strip().splitlines() or [type(fault).__name__]
        return {"fault": lines[0][:300]}


def run_in_child(name: str) -> Any:
    """Returns the result of the check called `name`, run in its own process with a limit of three minutes."""
    command = [sys.executable, str(SCRIPT), *sys.argv[1:], "--only", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"fault": "no answer within three minutes"}
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"fault": lines[-1][:300]}


def check_port(args: argparse.Namespace) -> dict[str, float]:
    """Listens at the coordinator's port on worker 0; on every other host, asks worker 0 for its time.

    Returns `skew_s`, this host's clock minus worker 0's. Raises TimeoutError if a host does not connect in `wait_s`.
    """
    address, port = args.coordinator.rsplit(":", 1)
    if args.host:
        return {"skew_s": round(measure_skew(address, int(port), args.host, args.wait_s), 4)}
    visitors = listen(int(port), args.hosts - 1, args.wait_s)
    missing = sorted(set(range(1, args.hosts)) - visitors)
    if missing:
        names = ", ".join(map(str, missing))
        raise TimeoutError(f"no connection to port {port} from worker {names} within {args.wait_s:g} s")
    return {"skew_s": 0.0}


def listen(port: int, expected: int, wait_s: float) -> set[int]:
    """Returns the numbers of the hosts that connected to `port`, after `expected` hosts or `wait_s` seconds."""
    visitors: set[int] = set()
    complete = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as stream, contextlib.suppress(OSError, ValueError):
            for line in stream:  # the host's number, once per exchange
                print(repr(time.time()), file=stream, flush=True)
                visitors.add(int(line))
        if len(visitors) >= expected:
            complete.set()

    def accept(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # the server was closed
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    try:
        server = socket.create_server(("", port))
    except OSError as fault:
        raise OSError(f"port {port} is in use on worker 0 ({fault.strerror}): is a run alive there?") from fault
    with server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        if expected:
            complete.wait(wait_s)
        return set(visitors)


def measure_skew(address: str, port: int, number: int, wait_s: float) -> float:
    """Returns this host's clock minus the clock at `address` in seconds, to within half of the quickest round trip.

    address, port: of worker 0, which is tried again until it answers.
    number: number of this host.
    wait_s: seconds after which TimeoutError is raised.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with socket.create_connection((address, port), timeout=5) as peer, peer.makefile("rw") as stream:
                return min((exchange(stream, number) for _ in range(ROUNDS)), key=lambda pair: pair[0])[1]
        except (OSError, ValueError) as fault:  # nobody listens yet, or another program listens
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"cannot reach worker 0 at {address}:{port} within {wait_s:g} s ({fault or type(fault).__name__})"
                ) from fault
            time.sleep(0.2)


def exchange(stream: TextIO, number: int) -> tuple[float, float]:
    """Sends this host's `number` to worker 0 and reads its time. Returns (round trip, this clock minus its) in s."""
    sent, start = time.time(), time.perf_counter()
    print(number, file=stream, flush=True)
    remote = float(stream.readline())
    duration = time.perf_counter() - start
    return duration, sent + duration / 2 - remote


def read_devices() -> dict[str, Any]:
    """Returns platform, kind and count of this host's devices in JAX, and `links`, the exchange times of all TPUs."""
    import jax

    local = jax.local_devices()  # on a pod this starts the chips of all hosts
    found = {"platform": local[0].platform, "kind": local[0].device_kind, "count": len(local)}
    if local[0].platform != "tpu":
        return found
    from bert_tpu.distributed import exchange_times

    return found | {"links": run_check(lambda: exchange_times.compare(jax.devices()))}


def measure_bucket(args: argparse.Namespace) -> dict[str, float]:
    """Writes an object to the bucket with the library that checkpoints use, reads it back and deletes it.

    Returns the speeds in MB/s. Raises OSError if other bytes come back.
    """
    from etils import epath

    scheme = "gs://"
    if args.bucket.startswith(scheme):
        from google.cloud import storage  # Orbax reads the bucket's metadata before it writes, and needs permission to

        storage.Client().get_bucket(args.bucket[len(scheme) :])
    path = epath.Path(args.bucket) / f"doctor-{uuid.uuid4().hex}-{args.host}"
    payload = os.urandom(PAYLOAD)
    start = time.perf_counter()
    path.write_bytes(payload)
    written = time.perf_counter()
    try:
        same = path.read_bytes() == payload
        read = time.perf_counter()
    finally:
        path.unlink()
    if not same:
        raise OSError("an object came back from the bucket with other bytes")
    return {
        "write_mb_s": round(PAYLOAD / 1e6 / (written - start), 1),
        "read_mb_s": round(PAYLOAD / 1e6 / (read - written), 1),
    }


def read_tensorflow() -> dict[str, list[str]]:
    """Returns the installed TensorFlow packages and the kinds of devices that TensorFlow uses."""
    names = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tf-nightly")
    installed = {dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions()}
    import tensorflow as tf

    kinds = sorted({device.device_type for device in tf.config.list_physical_devices()})
    return {"packages": [name for name in names if name in installed], "devices": kinds}


def read_versions(folder: pathlib.Path) -> dict[str, list[str | None]]:
    """Returns {name: [installed version or None, pinned version]} of each pinned package that is installed or required.

    folder: has constraints.txt, with the pins, and requirements.txt, with the packages that a run requires.
    """
    required = {re.split(r"[^\w.-]", line)[0].lower() for line in read_lines(folder / "requirements.txt")}
    versions: dict[str, list[str | None]] = {}
    for line in read_lines(folder / "constraints.txt"):
        name, _, pin = line.partition("==")
        try:
            installed = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed or name.lower() in required:
            versions[name.lower().replace("_", "-")] = [installed, pin]
    return versions


def read_lines(path: pathlib.Path) -> list[str]:
    """Returns the lines of a requirements file without comments and blank lines."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def free_memory_gib() -> float:
    """Returns the memory that is available to programs, in GiB."""
    match = re.search(r"^MemAvailable: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    if not match:
        raise OSError("/proc/meminfo has no MemAvailable")
    return round(int(match[1]) / 2**20, 1)


def corpus_hash(directory: str) -> str:
    """Returns the corpus' hash from its lockfile."""
    from etils import epath

    from bert_tpu.core import json_files

    return json_files.read(epath.Path(directory) / "corpus.json", {"sha256": str})["sha256"]


if __name__ == "__main__":
    main()
