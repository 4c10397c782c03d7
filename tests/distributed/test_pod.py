"""Sixteen devices on four real processes: results that any number of hosts shares, and what happens when one dies."""

import json
import os
import re
import signal
import time

from helpers import local_pod, tiny_runs
import numpy as np
import pytest

from bert_tpu.core import hashing
from bert_tpu.data import host_share
from tools import show_batches

STEPS = 16
KEYS = {
    "batch_size": 32, "ramp.rows": (16,), "ramp.steps": 6, "num_steps": STEPS, "data.seq_lens": (16,),
    "data.max_predictions": (3,),
    "model.dropout": 0.1, "model.attention_dropout": 0.1, "checkpoint.every_steps": 2, "log.every_steps": 1,
    "eval.every_steps": STEPS, "watchdog.silent_s": 15, "watchdog.stacks_s": 1, "watchdog.exit_s": 100,
}  # fmt: skip
SPEEDS = ("input_wait", "examples_per_sec", "tokens_per_sec")


@pytest.fixture(scope="module")
def options(corpus_dir, tmp_path_factory):
    return tiny_runs.keys(corpus_dir, tmp_path_factory) | KEYS


def share(lock, host, hosts, directory):
    """Writes a corpus with only those shards that feed the rows of `host`."""
    directory.mkdir()
    kept = {path.name for path in lock.directory.iterdir() if path.suffix in (".json", ".txt")}
    # Training's groups feed both sizes of batches; evaluation's batches are all full.
    for split, size in (("train", *KEYS["ramp.rows"]), ("heldout", KEYS["batch_size"])):
        groups = host_share.deal(lock.splits[split], size)
        rows = KEYS["batch_size"] // hosts
        first, last = (row * len(groups) // KEYS["batch_size"] for row in (host * rows, (host + 1) * rows - 1))
        kept |= {info.file for group in groups[first : last + 1] for info in group}
    for name in kept:
        os.symlink(lock.directory / name, directory / name)
    return directory


def recorded(folder, step, hosts):
    """Returns the global batch of a step, put together from the rows that were on each host's devices."""
    rows = {}
    for host in range(hosts):
        for key, value in np.load(folder / f"{step}.{host}.npz").items():
            name, _, first = key.partition("@")
            rows.setdefault(name, {})[int(first)] = value
    return {name: np.concatenate([value for _, value in sorted(parts.items())]) for name, parts in rows.items()}


def assert_close(lines, others):
    """Asserts that lines are equal up to float32 rounding, which grows from step to step."""
    for line, other in zip(lines, others, strict=True):
        assert line.pop("kind") == other.pop("kind")
        assert line == pytest.approx(other, rel=2e-4, abs=2e-5)


def last_step(run):
    """Returns the last step in the run's metrics."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else ()
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


@pytest.mark.timeout(900)
def test_a_run_is_the_same_run_on_any_hosts_whatever_happens_to_them(options, lock, tmp_path, monkeypatch):
    """4 hosts until one gets SIGTERM, 2 until one is killed, 2 until host 0 is killed, 1 to the end; and 1 alone."""
    run, record = tmp_path / "run", tmp_path / "record"
    words, calm = tiny_runs.words(options, run), "--config.watchdog.stacks_s=0"
    record.mkdir()
    monkeypatch.setenv("RECORD", str(record))

    shares = [share(lock, host, 4, tmp_path / f"share{host}") for host in range(4)]
    assert all(len(list(path.glob("*.safetensors"))) < len(lock.splits["train"]) for path in shares)
    each = [(f"--config.data.dir={path}", calm) for path in shares]
    program = "tests/helpers/recording_pretrain.py"
    with local_pod.Pod(tmp_path / "a", words, hosts=4, devices=4, each=each.__getitem__, program=program) as hosts:
        hosts.wait_until(lambda: last_step(run) >= 2)
        hosts.send(2, signal.SIGTERM)
        assert hosts.exit_codes() == [143] * 4
        at = tiny_runs.steps(run)[-1]
        assert f"stopped; step {at} is saved" in hosts.stderr(0)
        assert 3 <= at < STEPS - 4
        assert [hosts.stderr(host).strip() for host in (1, 2, 3)] == [""] * 3
    # Each host has put the same number of batches on its devices: the steps up to the one that was saved.
    assert {path.name for path in record.iterdir()} == {f"{step}.{host}.npz" for step in range(at) for host in range(4)}
    single = show_batches.batches(tiny_runs.configured(options), 0, at, 1)
    for (step, _, batch), _ in zip(single, range(at), strict=True):
        assert hashing.batch_sha256(recorded(record, step, 4)) == hashing.batch_sha256(batch)
    sums = (run / "checkpoints" / str(at) / "SHA256SUMS").read_text()
    assert sums.count("params/") > 1

    often = "--config.eval.every_steps=2"  # which a restart may change
    with local_pod.Pod(tmp_path / "b", [*words, often], hosts=2, devices=2) as hosts:
        hosts.wait_until(lambda: f"step {at} of {STEPS};" in hosts.stderr(0))  # by now later lines are cut off
        hosts.wait_until(lambda: last_step(run) > at)
        hosts.send(1, signal.SIGSTOP)
        lags = r"nothing was finished for \d+ s: host 1 lags, and has been silent for \d+ s"
        hosts.wait_until(lambda: re.search(lags, hosts.stderr(0)))
        assert "loop.py" in hosts.stderr(0)  # its stacks
        stopped_at = last_step(run)
        hosts.send(1, signal.SIGCONT)
        hosts.wait_until(lambda: last_step(run) > stopped_at)
        hosts.wait_until(lambda: (run / "samples.jsonl").exists())  # two hosts have evaluated
        hosts.send(1, signal.SIGKILL)
        killed_s = time.monotonic()
        assert hosts.exit_codes() == [1, -signal.SIGKILL]
        assert time.monotonic() - killed_s < 60
        (error,) = re.findall("error: .*", hosts.stderr(0))
        assert re.match(
            r"error: host 1 has given no sign of life for \d+ s \(it was at step \d+\): it was killed", error
        )
        assert "Traceback" not in hosts.stderr(0)
    at = tiny_runs.steps(run)[-1]

    with local_pod.Pod(tmp_path / "c", [*words, calm], hosts=2, devices=2) as hosts:
        hosts.wait_until(lambda: f"step {at} of {STEPS};" in hosts.stderr(0))  # by now later lines are cut off
        hosts.wait_until(lambda: last_step(run) > at)
        hosts.send(0, signal.SIGKILL)
        assert hosts.exit_codes(60) == [-signal.SIGKILL, 1]
        assert hosts.stderr(1).strip().startswith("error: host 0, the coordinator, is gone")
        assert hosts.stderr(1).count("\n") == 1

    for name, directory in (("d", run), ("e", tmp_path / "alone")):
        with local_pod.Pod(tmp_path / name, [*tiny_runs.words(options, directory), calm], hosts=1, devices=1) as hosts:
            assert hosts.exit_codes() == [0]
    lines = [line for line in tiny_runs.metrics(run, SPEEDS) if line["kind"] == "train" or line["step"] == STEPS]
    assert_close(lines, tiny_runs.metrics(tmp_path / "alone", SPEEDS))


@pytest.mark.timeout(300)
def test_hosts_that_disagree_do_not_start_and_name_the_one_that_differs(options, lock, tmp_path):
    each = [(), (), ("--config.seed=1",), ()]
    with local_pod.Pod(
        tmp_path / "a", tiny_runs.words(options, tmp_path / "run"), hosts=4, devices=1, each=each.__getitem__
    ) as hosts:
        assert hosts.exit_codes() == [1] * 4
        for host in range(4):
            assert re.fullmatch(
                r"error: host 2 \(\S+\) differs: seed is 1 there and 0 on host 0; start the same command, .*\n",
                hosts.stderr(host),
            )
    assert not (tmp_path / "run").exists()
