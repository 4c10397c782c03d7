"""Stands in for Python on a host: `train` counts in the bucket of the stub's folder, `examine` reports a sound host.

Each start of a worker is appended to `starts.jsonl`. STUB_DIR/play.json has

    steps, step_s     number of training steps, and seconds of each
    exit_codes        exit codes of the first starts of worker 0
    stall_at          steps after which a run stalls; a run that starts from such a step does not stall there
"""

import json
import os
import pathlib
import signal
import sys
import time

STUB_DIR = pathlib.Path(os.environ["STUB_DIR"])


def train(args):
    """Counts from the newest checkpoint of the workdir to the last step. SIGTERM ends it with 143."""
    play = json.loads((STUB_DIR / "play.json").read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    number = int(os.environ["JAX_PROCESS_ID"])
    workdir = args[args.index("--workdir") + 1].removeprefix("gs://")
    checkpoint = STUB_DIR / "bucket" / workdir / "step"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    start = {name: os.environ[name] for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")}
    starts = STUB_DIR / "starts.jsonl"
    with open(starts, "a") as file:
        file.write(json.dumps(start | {"args": args, "first": first, "cwd": os.getcwd()}) + "\n")
    count = sum(json.loads(line)["JAX_PROCESS_ID"] == "0" for line in starts.read_text().splitlines())
    if number == 0 and count <= len(play["exit_codes"]):
        print("error: the config has a fault", file=sys.stderr)
        sys.exit(play["exit_codes"][count - 1])
    for step in range(first + 1, play["steps"] + 1):
        time.sleep(play["step_s"])
        print(f"step {step}/{play['steps']}", flush=True)
        if number == 0:
            assert not checkpoint.exists() or int(checkpoint.read_text()) < step, "this overwrites a newer checkpoint"
            temporary = checkpoint.with_suffix(".tmp")
            temporary.write_text(str(step))
            temporary.replace(checkpoint)
        while step in play["stall_at"]:
            time.sleep(1)


def examine(args):
    """Prints the doctor's report of a sound host."""
    flags = dict(zip(args[::2], args[1::2], strict=True))
    print((STUB_DIR / "doctor.json").read_text().replace('"HOST"', flags["--host"]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["-m", "bert_tpu.pretrain", *args]:
            train(args)
        case ["launch/doctor.py", *args]:
            examine(args)
        case args:
            sys.exit(f"stub_python.py has no command {args}")
