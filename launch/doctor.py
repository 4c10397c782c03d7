"""One host of a pod looks at itself, while all others do the same, and prints a line of JSON for launch/verdict.py.

    python launch/doctor.py --host I --hosts N --coordinator ADDRESS:PORT --bucket gs://B [--corpus DIR]

A check that fails is reported as {"fault": "what a person would say"}; the exit code is 0 all the same.
"""

import argparse
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
import uuid

HERE = pathlib.Path(__file__).resolve()
PAYLOAD = 8 << 20  # bytes; large enough that the figure is the bandwidth's and not the round trip's
NAME = re.compile(r"[\w.-]+")
ROUNDS = 8  # exchanges with worker 0, of which the quickest tells the clocks' difference best
IN_CHILDREN = ("devices", "bucket", "tensorflow")  # what may hang, or takes a device for itself


def main():
    """Prints the report; with --only, one check's."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--host", type=int, required=True)
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--coordinator", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--corpus")
    parser.add_argument("--wait_s", type=float, default=60, help="for the other hosts to begin")
    parser.add_argument("--pins", type=pathlib.Path, default=HERE.parent.parent, help="requirements and constraints")
    parser.add_argument("--only", choices=IN_CHILDREN, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        gc.disable()  # a child imports, answers and ends: a sixth of its time would go to looking for garbage
    checks = {"devices": devices, "bucket": lambda: bucket(args), "tensorflow": tensorflow}
    print(json.dumps(reported(checks[args.only]) if args.only else report(args)))


def report(args) -> dict:
    """All checks of this host. The port is first: the others wait for it."""
    port = reported(lambda: meet(args))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        children = {name: pool.submit(in_child, name) for name in IN_CHILDREN}
        return {
            "host": args.host,
            "name": socket.gethostname(),
            "python": platform.python_version(),
            "port": port,
            "commit": reported(lambda: (HERE.parent.parent / "COMMIT").read_text().strip()),
            "versions": reported(lambda: versions(args.pins)),
            "disk_gib": round(shutil.disk_usage(pathlib.Path.home()).free / 2**30, 1),
            "memory_gib": reported(memory_gib),
            "corpus": reported(lambda: corpus(args.corpus)) if args.corpus else None,
            **{name: child.result() for name, child in children.items()},
        }


def reported(check):
    """What `check` returns, or its fault in one line."""
    try:
        return check()
    except FileNotFoundError as fault:
        return {"fault": f"{fault.filename or fault} is not there"}
    except Exception as fault:  # a doctor reports whatever is wrong
        lines = str(fault).strip().splitlines() or [type(fault).__name__]
        return {"fault": lines[0][:300]}


def in_child(name):
    """One check in a process of its own, given three minutes."""
    command = [sys.executable, str(HERE), *sys.argv[1:], "--only", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"fault": "no answer within three minutes"}
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"fault": said[-1][:300]}


def meet(args) -> dict:
    """Worker 0 listens where a run's coordinator will, and every other host asks it for the time.

    Returns `skew_s`, this host's clock less worker 0's. Raises if somebody does not come within `wait_s`.
    """
    address, port = args.coordinator.rsplit(":", 1)
    if args.host:
        return {"skew_s": round(ask_time(address, int(port), args.host, args.wait_s), 4)}
    come = listen(int(port), args.hosts - 1, args.wait_s)
    missing = sorted(set(range(1, args.hosts)) - come)
    if missing:
        names = ", ".join(map(str, missing))
        raise TimeoutError(f"nobody came to port {port} from worker {names} within {args.wait_s:g} s")
    return {"skew_s": 0.0}


def listen(port, awaited, wait_s) -> set:
    """The numbers of the hosts that came to `port`; returns when all have, or `wait_s` is over."""
    come, all_here = set(), threading.Event()

    def serve(connection):
        with connection, connection.makefile("rw") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:  # a host's number, once for each exchange
                print(repr(time.time()), file=lines, flush=True)
                come.add(int(line))
        if len(come) >= awaited:
            all_here.set()

    def accept(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    try:
        server = socket.create_server(("", port))
    except OSError as fault:
        raise OSError(f"port {port} is taken on worker 0 ({fault.strerror}): is a run alive there?") from fault
    with server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        if awaited:
            all_here.wait(wait_s)
        return set(come)


def ask_time(address, port, number, wait_s) -> float:
    """The clock here less the one at `address`, in seconds, to within half of the quickest round trip."""
    until = time.monotonic() + wait_s
    while True:
        try:
            with socket.create_connection((address, port), timeout=5) as connection, connection.makefile("rw") as lines:
                return min((exchange(lines, number) for _ in range(ROUNDS)), key=lambda pair: pair[0])[1]
        except (OSError, ValueError) as fault:  # not listening yet, or somebody else listens
            if time.monotonic() > until:
                raise TimeoutError(
                    f"cannot reach worker 0 at {address}:{port} within {wait_s:g} s ({fault or type(fault).__name__})"
                ) from fault
            time.sleep(0.2)


def exchange(lines, number):
    """(seconds of the round trip, this clock less theirs)."""
    sent, began = time.time(), time.perf_counter()
    print(number, file=lines, flush=True)
    theirs = float(lines.readline())
    took = time.perf_counter() - began
    return took, sent + took / 2 - theirs


def devices() -> dict:
    """What JAX sees on this host; on a pod this starts the chips of all hosts together."""
    import jax

    local = jax.local_devices()
    return {"platform": local[0].platform, "kind": local[0].device_kind, "count": len(local)}


def bucket(args) -> dict:
    """MB/s of writing an object and of reading it back, by the way that checkpoints take; the object is deleted."""
    from etils import epath

    if args.bucket.startswith("gs://"):
        from google.cloud import storage  # Orbax looks at the bucket itself before it writes, and needs leave to

        storage.Client().get_bucket(args.bucket.removeprefix("gs://"))
    path = epath.Path(args.bucket) / f"doctor-{uuid.uuid4().hex}-{args.host}"
    payload = os.urandom(PAYLOAD)
    began = time.perf_counter()
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
        "write_mb_s": round(PAYLOAD / 1e6 / (written - began), 1),
        "read_mb_s": round(PAYLOAD / 1e6 / (read - written), 1),
    }


def tensorflow() -> dict:
    """The TensorFlow packages that are installed, and the kinds of devices that TensorFlow sees."""
    names = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tf-nightly")
    installed = {dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions()}
    import tensorflow as tf

    kinds = sorted({device.device_type for device in tf.config.list_physical_devices()})
    return {"packages": [name for name in names if name in installed], "devices": kinds}


def versions(folder) -> dict:
    """[Installed version or None, pinned version] by name, of each pinned package that is installed or needed.

    folder: it has constraints.txt, with the pins, and requirements.txt, with the packages that a run needs.
    """
    needed = {NAME.match(line)[0].lower() for line in lines_of(folder / "requirements.txt")}
    versions = {}
    for line in lines_of(folder / "constraints.txt"):
        name, _, pinned = line.partition("==")
        try:
            installed = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed or name.lower() in needed:
            versions[name.lower().replace("_", "-")] = [installed, pinned]
    return versions


def lines_of(path) -> list:
    """The lines of a requirements file without blank ones and comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def memory_gib() -> float:
    """Memory that programs can still have."""
    kib = re.search(r"^MemAvailable: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)[1]
    return round(int(kib) / 2**20, 1)


def corpus(directory) -> str:
    """The corpus' hash, as its lockfile has it."""
    from etils import epath

    return json.loads((epath.Path(directory) / "corpus.json").read_text())["sha256"]


if __name__ == "__main__":
    main()
