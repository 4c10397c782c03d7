"""Stands in for the Python of a host: trains by counting, in the bucket of the stub's folder, and the doctor is well.

What its worker was given is appended to `starts.jsonl`. STUB_DIR/play.json has `steps`, `step_s`, `die`, the exit
codes of the first starts of worker 0, and `holds`, steps at which a run that began before them goes on no more.
"""

import json
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(os.environ["STUB_DIR"])


def train(words):
    """Counts on from the newest checkpoint of the workdir to the last step; SIGTERM ends with 143."""
    play = json.loads((HERE / "play.json").read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    number = int(os.environ["JAX_PROCESS_ID"])
    workdir = words[words.index("--workdir") + 1].removeprefix("gs://")
    step = HERE / "bucket" / workdir / "step"
    step.parent.mkdir(parents=True, exist_ok=True)
    first = int(step.read_text()) if step.exists() else 0
    start = {name: os.environ[name] for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")}
    with open(HERE / "starts.jsonl", "a") as starts:
        starts.write(json.dumps(start | {"words": words, "first": first, "cwd": os.getcwd()}) + "\n")
    died = sum(json.loads(line)["JAX_PROCESS_ID"] == "0" for line in (HERE / "starts.jsonl").read_text().splitlines())
    if died <= len(play["die"]) and number == 0:
        print("error: the config has a fault", file=sys.stderr)
        sys.exit(play["die"][died - 1])
    for now in range(first + 1, play["steps"] + 1):
        time.sleep(play["step_s"])
        print(f"step {now}/{play['steps']}", flush=True)
        if number == 0:
            assert not step.exists() or int(step.read_text()) < now, "a newer checkpoint would be overwritten"
            temporary = step.with_suffix(".tmp")
            temporary.write_text(str(now))
            temporary.replace(step)
        while now in play["holds"]:
            time.sleep(1)


def examine(words):
    """A line of a sound host."""
    flags = dict(zip(words[::2], words[1::2], strict=True))
    print((HERE / "doctor.json").read_text().replace('"HOST"', flags["--host"]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["-m", "bert_tpu.pretrain", *words]:
            train(words)
        case ["launch/doctor.py", *words]:
            examine(words)
        case other:
            sys.exit(f"the stand-in knows no {other}")
