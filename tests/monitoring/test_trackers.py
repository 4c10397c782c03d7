"""Trackers have what metrics.jsonl has, after restarts too, and one that fails or hangs does not stop the training."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
import time

import pytest

from bert_tpu.core import command
from bert_tpu.monitoring import log, tracker_record, tracker_thread, trackers

# Third parties' trackers as their documentation describes them. They write what they get to a file.
STUB = """
import json, os, pathlib, sys, time
FILE = pathlib.Path(os.environ["STUB_FILE"])
FAULT = pathlib.Path(os.environ["STUB_FILE"] + ".fault")
def put(**what):
    with FILE.open("a") as file:
        file.write(json.dumps(what) + "\\n")
class Run:
    def __init__(self, id): self.id = id
    def log(self, values, step):
        fault = FAULT.read_text() if FAULT.exists() else ""
        if fault == "hang": time.sleep(600)
        if fault == "fail": raise RuntimeError("the server is away")
        if fault == "exit": sys.exit(3)
        print("noise of a tracker")
        put(step=step, **values)
    def finish(self, exit_code): put(end=exit_code)
def init(project, name, id, resume, config, dir):
    put(run=id, name=name, config=config)
    return Run(id)
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A package `wandb`; returns the file of what it got."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("STUB_FILE", str(tmp_path / "got"))
    monkeypatch.setattr(trackers, "CLOSE_S", 10)
    return tmp_path / "got"


def new_log(directory, to=("wandb",), **changes):
    directory.mkdir(exist_ok=True)
    options = dict(
        workdir=directory, every_steps=2, to=to, first_step=0, num_steps=8, batch_size=8, rows=lambda _: 8,
        batch_share=lambda _: 1.0,
        objectives=("mlm_loss",), learning_rate=lambda step: step / 100, work=lambda step: step, peak_s={},
        unlogged={}, config={"seed": 3, "data.seq_lens": (16, 32)}, writes=True,
    )  # fmt: skip
    return log.Log(**options | changes)


def take(run_log, *steps):
    for step in steps:
        run_log.step(step, 16, {"mlm_loss": (1.0, step)}, 0.5, 0.1)
        if step % 4 == 0:
            run_log.evaluation(step, {16: {"mlm_loss": (2.0, step)}})


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(directory):
    """Returns the values that each line of metrics.jsonl must give to a tracker."""
    return [{"step": line["step"]} | tracker_record.values(line) for line in read(directory / "metrics.jsonl")]


def values(got):
    return [entry for entry in got if "step" in entry]


def test_a_tracker_has_what_metrics_jsonl_has(stub, tmp_path):
    run_log = new_log(tmp_path / "run")
    take(run_log, *range(1, 9))
    run_log.close()
    first, *rest, last = read(stub)
    assert first["name"] == "run"
    assert first["config"] == {"seed": 3, "data.seq_lens": [16, 32]}
    assert rest == expected(tmp_path / "run")
    assert [set(entry) >= {"step", "train_16/loss"} for entry in rest[:2]] == [True, True]
    assert last == {"end": 0}


def test_a_resumed_run_continues_its_record_and_sends_no_line_twice(stub, tmp_path):
    """Step 6 was logged before the kill and its checkpoint is step 4. A line of another interval comes in between."""
    run_log = new_log(tmp_path / "run")
    take(run_log, *range(1, 7))
    run_log._trackers.close(False)  # the tracker has all; the run is killed now
    again = new_log(tmp_path / "run", first_step=4)
    take(again, *range(5, 9))
    again.close()
    got = read(stub)
    assert len({entry["run"] for entry in got if "run" in entry}) == 1
    assert values(got) == expected(tmp_path / "run")


@pytest.mark.parametrize("seed", [3, 4])
def test_a_run_that_begins_again_with_another_config_has_a_record_of_its_own(stub, tmp_path, seed):
    """It was killed before its first checkpoint; until then a workdir takes any config."""
    run_log = new_log(tmp_path / "run")
    take(run_log, *range(1, 7))
    run_log._trackers.close(False)
    again = new_log(tmp_path / "run", config={"seed": seed, "data.seq_lens": (16, 32)})
    take(again, *range(1, 9))
    again.close()
    got = read(stub)
    assert len({entry["run"] for entry in got if "run" in entry}) == (1 if seed == 3 else 2)
    assert values(got)[-len(expected(tmp_path / "run")) :] == expected(tmp_path / "run")


def test_a_tracker_that_is_added_later_gets_the_whole_run(stub, tmp_path):
    first = new_log(tmp_path / "run", to=())
    take(first, *range(1, 5))
    first.close()
    second = new_log(tmp_path / "run", first_step=4)
    take(second, *range(5, 9))
    second.close()
    assert values(read(stub)) == expected(tmp_path / "run")


@pytest.mark.parametrize(("fault", "reason"), [("fail", "the server is away"), ("exit", "SystemExit: 3")])
def test_a_tracker_that_fails_is_named_once_and_gets_its_lines_later(
    stub, tmp_path, capsys, monkeypatch, fault, reason
):
    monkeypatch.setattr(tracker_thread, "RETRY_S", 0.1)
    (tmp_path / "got.fault").write_text(fault)
    run_log = new_log(tmp_path / "run")
    take(run_log, *range(1, 9))
    run_log.close()
    printed = capsys.readouterr().err
    assert printed.count("wandb fails") == 1
    assert reason in printed
    assert "6 lines of metrics.jsonl did not reach wandb" in printed
    assert len(read(tmp_path / "run" / "metrics.jsonl")) == 6
    (tmp_path / "got.fault").unlink()
    new_log(tmp_path / "run", first_step=8).close()  # the same command of a finished run
    assert values(read(stub)) == expected(tmp_path / "run")


def test_a_tracker_that_hangs_delays_no_step(stub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trackers, "CLOSE_S", 1)
    (tmp_path / "got.fault").write_text("hang")
    run_log = new_log(tmp_path / "run")
    began_s = time.monotonic()
    take(run_log, *range(1, 9))
    assert time.monotonic() - began_s < 0.5
    run_log.close()
    assert time.monotonic() - began_s < 5
    assert "6 lines of metrics.jsonl did not reach wandb" in capsys.readouterr().err


def test_a_killed_training_ends_the_record(stub, tmp_path):
    """kill -9 closes the pipe, and the tracker's process then ends its run by itself."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(tracker_thread.PROGRAM), "wandb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    opening = {"name": "run", "id": "abc", "directory": str(tmp_path), "config": {}}
    process.communicate("".join(json.dumps(m) + "\n" for m in (opening, {"step": 1, "values": {"a": 1.0}})).encode())
    assert read(stub)[1:] == [{"step": 1, "a": 1.0}, {"end": 1}]


def test_only_the_host_that_writes_has_trackers(stub, tmp_path):
    run_log = new_log(tmp_path / "run", writes=False)
    take(run_log, *range(1, 9))
    run_log.close()
    assert not stub.exists()


def test_unknown_names_and_missing_packages_are_refused(tmp_path, monkeypatch):
    trackers.check(("tensorboard",))
    with pytest.raises(command.UserError, match="'wandbb': give some of tensorboard, trackio, wandb, mlflow"):
        trackers.check(("tensorboard", "wandbb"))
    (tmp_path / "wandb").mkdir()  # as an earlier run left it; Python takes it for a package without files
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *(path for path in sys.path if not os.path.isdir(f"{path}/wandb"))])
    with pytest.raises(command.UserError, match=r"log\.to=wandb needs wandb: .*wandb"):
        trackers.check(("wandb",))


def test_tensorboard_forgets_what_a_killed_run_wrote(tmp_path):
    from tensorboard.backend.event_processing import plugin_event_accumulator  # TensorBoard's own reader

    take(new_log(tmp_path / "run", to=("tensorboard",)), *range(1, 7))
    time.sleep(1.1)  # TensorBoard reads the files of a run in the order of their seconds
    again = new_log(tmp_path / "run", to=("tensorboard",), first_step=4)
    take(again, *range(5, 9))
    events = plugin_event_accumulator.EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Tensors("train_16/loss")] == [2, 4, 6, 8]


def test_tensorboards_events_that_cannot_be_written_are_named_once_and_counted(tmp_path, monkeypatch):
    import tensorflow as tf

    def refuse(*_, **__):
        raise tf.errors.PermissionDeniedError(None, None, "no rights")

    monkeypatch.setattr(tf.summary, "create_file_writer", refuse)
    notes = []
    events = trackers.Events(tmp_path, 0, notes)
    for step in (1, 2, 3):
        events.write({"step": step, "kind": "train", "seq_len": 16, "loss": 1.0})
    events.close(True, 0)
    first, last = notes
    assert "TensorBoard's events cannot be written (no rights); training goes on" in first
    assert "3 lines of metrics.jsonl are not in TensorBoard's events" in last


def test_tensorboards_events_reach_a_bucket_now_and_then(tmp_path, monkeypatch):
    """TensorFlow uploads the whole file each time that it writes."""
    from tensorboard.backend.event_processing import plugin_event_accumulator

    monkeypatch.setattr(trackers.storage, "is_bucket", lambda path: True)
    notes = []
    events = trackers.Events(tmp_path, 0, notes)
    sizes = []
    for step in range(1, 101):
        values = {f"value{number}": 1.0 * step for number in range(12)}
        events.write({"step": step, "kind": "train", "seq_len": 16, "loss": 1.0 * step, **values})
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert len(set(sizes)) <= 2  # of the first line alone
    events.close(True, 0)
    assert not notes
    read = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in read.Tensors("train_16/loss")] == list(range(1, 101))


@pytest.mark.filterwarnings("ignore")  # of its libraries
def test_real_mlflow_continues_its_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    _run_twice(tmp_path / "run", "mlflow")
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("bert_tpu").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "3"
    history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train_16/loss")]
    assert history == [(e["step"], e["train_16/loss"]) for e in expected(tmp_path / "run") if "train_16/loss" in e]


@pytest.mark.filterwarnings("ignore")
def test_real_trackio_continues_its_run(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    _run_twice(tmp_path / "run", "trackio")
    rows = sqlite3.connect(tmp_path / "trackio" / "bert_tpu.db").execute("select run_name, step, metrics from metrics")
    rows = rows.fetchall()
    assert len({name for name, _, _ in rows}) == 1
    assert [{"step": step} | json.loads(metrics) for _, step, metrics in rows] == expected(tmp_path / "run")


@pytest.mark.filterwarnings("ignore")
def test_real_wandb_continues_its_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    _run_twice(tmp_path / "run", "wandb")
    ids, got = set(), {}
    for path in sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")):
        for record in _wandb_records(path.read_bytes()):
            if record.run.run_id:
                ids.add(record.run.run_id)
            items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            for key in items.keys() - {"_step", "_runtime", "_timestamp"}:
                entry = got.setdefault(items["_step"], {})
                assert key not in entry
                entry[key] = items[key]
    assert len(ids) == 1
    merged = {}
    for entry in expected(tmp_path / "run"):
        step = entry.pop("step")
        merged.setdefault(step, {}).update(entry)
    assert got == merged


def _wandb_records(raw):
    """Yields the records of a file of wandb, which are in LevelDB's log format: blocks of 32 KiB after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    at, record = 7, b""
    while at + 7 <= len(raw):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", raw[at + 4 : at + 7])
        record += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def _run_twice(directory, name):
    """Logs six steps, is killed, resumes from step 4 and ends."""
    first = new_log(directory, to=(name,))
    take(first, *range(1, 7))
    first._trackers.close(False)
    again = new_log(directory, to=(name,), first_step=4)
    take(again, *range(5, 9))
    again.close()


def test_a_record_that_cannot_be_written_stops_nothing(stub, tmp_path, capsys):
    (tmp_path / "run" / "trackers.json.d").mkdir(parents=True)
    run_log = new_log(tmp_path / "run")
    run_log._trackers._record._path = tmp_path / "run" / "trackers.json.d"
    take(run_log, *range(1, 9))
    run_log.close()
    assert values(read(stub)) == expected(tmp_path / "run")
    assert "trackers.json cannot be written" in capsys.readouterr().err
