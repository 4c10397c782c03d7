"""A pretraining run continues after any interruption without a changed bit, and its files record what it did."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import termios
import time

from helpers import damage, tiny_runs
from helpers.tiny_runs import KEYS, STEPS, configured, metrics, start, steps
import jax
import numpy as np
import pytest

from bert_tpu.core import jsonl, progress
from bert_tpu.data import corpus_batches, host_share
from bert_tpu.distributed import hosts, mesh
from bert_tpu.monitoring import health, hours, log, versions
from bert_tpu.pretrain import mlm_nsp, pretraining
from bert_tpu.report import run
from bert_tpu.training import checkpoint, loop, saved_params, train_step, trainer, workdir

SPEEDS = ("input_wait", "examples_per_sec", "tokens_per_sec")


@pytest.fixture(scope="module")
def options(corpus_dir, tmp_path_factory):
    return tiny_runs.keys(corpus_dir, tmp_path_factory)


@pytest.fixture
def cfg(options):
    return configured(options)


@pytest.fixture(scope="module")
def whole(options, tmp_path_factory):
    """The workdir of a run without interruption."""
    directory = tmp_path_factory.mktemp("whole")
    assert pretraining.run(configured(options, **{"log.to": ("tensorboard",)}), directory) == 0
    return directory


def arrays(directory, step=STEPS):
    """Parameters and optimizer of a checkpoint."""
    path = directory / "checkpoints" / str(step)
    with checkpoint.ocp.StandardCheckpointer() as checkpointer:
        return {name: checkpointer.restore(path / name) for name in ("params", "opt")}


def assert_same_run(directory, whole):
    assert steps(directory)[-1] == STEPS
    jax.tree.map(np.testing.assert_array_equal, arrays(directory), arrays(whole))
    assert metrics(directory, SPEEDS) == metrics(whole, SPEEDS)
    assert (directory / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()


@pytest.fixture(scope="module")
def compiled():
    """A list that grows by one event for each program that is missing in the compilation cache."""
    missed = []
    jax.monitoring.register_event_listener(
        lambda event, **_: missed.append(event) if event == "/jax/compilation_cache/cache_misses" else None
    )
    return missed


def wait_until(moment, process):
    """Returns once `moment()` is true. Checks it a thousand times a second, because some moments are short."""
    while not moment():
        assert process.poll() is None, "the run ended before the moment to stop it"
        time.sleep(0.001)


def test_kill_in_the_middle_of_a_save_changes_no_bit(options, whole, tmp_path, compiled):
    process = start(options, tmp_path, stderr=subprocess.PIPE)
    wait_until(lambda: any(tmp_path.glob("checkpoints/*[05]/params")), process)
    wait_until(lambda: any(tmp_path.glob("checkpoints/*.orbax-checkpoint-tmp/params*")), process)
    process.kill()
    process.wait()
    process.stderr.close()
    assert any(tmp_path.glob("checkpoints/*.orbax-checkpoint-tmp"))
    assert 5 <= steps(tmp_path)[-1] < STEPS
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 2')  # a line that was cut off
    del compiled[:]
    assert pretraining.run(configured(options), tmp_path) == 0
    assert compiled == []
    assert_same_run(tmp_path, whole)


def test_a_copy_of_a_workdir_continues_elsewhere_with_the_same_bytes(options, corpus_dir, whole, tmp_path, compiled):
    """A notebook's session is copied while it trains, and then lost; the next session has other paths."""
    process = start(options, tmp_path / "lost")
    wait_until(lambda: any(tmp_path.glob("lost/checkpoints/*[05]/params")), process)
    wait_until(lambda: any(tmp_path.glob("lost/checkpoints/*.orbax-checkpoint-tmp/params*")), process)
    with contextlib.suppress(shutil.Error):  # of files that the run has moved meanwhile
        shutil.copytree(tmp_path / "lost", tmp_path / "kept")
    process.kill()
    process.wait()
    shutil.rmtree(tmp_path / "lost")
    shutil.copytree(corpus_dir, tmp_path / "corpus")
    assert 5 <= steps(tmp_path / "kept")[-1] < STEPS
    assert pretraining.run(configured(options, **{"data.dir": str(tmp_path / "corpus")}), tmp_path / "kept") == 0
    assert_same_run(tmp_path / "kept", whole)


@contextlib.contextmanager
def signals(monkeypatch, number, *at):
    """Sends this process a signal when the log takes each step of `at`."""
    take = log.Log.step

    def signalled(self, step, *rest):
        if step in at:
            os.kill(os.getpid(), number)
        take(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "step", signalled)
        yield


def test_a_signal_saves_and_a_damaged_checkpoint_costs_only_its_steps(cfg, whole, tmp_path, monkeypatch, capsys):
    cfg.profile.update(first_step=6, num_steps=3)
    for number, code, at in ((signal.SIGTERM, 143, 6), (signal.SIGINT, 130, 13)):
        with signals(monkeypatch, number, at):
            assert pretraining.run(cfg, tmp_path) == code
        assert steps(tmp_path)[-1] == at + 1  # the step that was being computed
        assert f"stopped; step {at + 1} is saved" in capsys.readouterr().err
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 2  # the signal divided the profile in two
    damaged = tmp_path / "checkpoints" / "14"
    next((damaged / "params").rglob("manifest.ocdbt")).write_bytes(b"")
    assert pretraining.run(cfg, tmp_path) == 0
    output = capsys.readouterr().err
    assert f"warning: {damaged} cannot be read" in output
    assert ", step 10 of 24;" in output
    assert_same_run(tmp_path, whole)
    assert pretraining.run(cfg, tmp_path) == 0
    assert "has all 24 steps already" in capsys.readouterr().err
    assert_same_run(tmp_path, whole)


def test_sigterm_while_it_compiles_ends_it_at_once(options, tmp_path):
    process = start(options | {"compile_cache": "", "model.num_layers": 6}, tmp_path, stderr=subprocess.PIPE)
    assert "compiling" in process.stderr.readline()
    process.terminate()
    sent_s = time.monotonic()
    assert process.wait() == 143
    assert time.monotonic() - sent_s < 5
    with process.stderr as output:
        assert output.read() == "\nstopped before the first step; the same command goes on\n"
    assert steps(tmp_path) == []


def test_terminal_shows_only_messages_of_the_run(options, tmp_path):
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 100))
    process = start(options, tmp_path, stdout=terminal, stderr=terminal)
    os.close(terminal)
    raw = b""
    with contextlib.suppress(OSError):  # Linux raises it at the end of a terminal that no process has open
        while piece := os.read(controller, 65536):
            raw += piece
    os.close(controller)
    assert process.wait() == 0
    texts = raw.decode().replace("\n", "\r").replace(progress.CLEAR, "\r").split("\r")
    place, losses = r"step +[\d,]+/24", r"loss \d+\.\d{3}  mlm \d+\.\d%  nsp \d+\.\d%"
    forms = (
        r"8 x cpu, [\d,]+ parameters, step 0 of 24; compiling for lengths 16, 32 \.\.\.",
        rf"{place}(  0:00:\d\d left)?(  |  16: {losses}  [\d,]+ seq/s)",
        r"0 h 0\d min in 1 start: (\w+ \d+\.\d%(, )?){6}",
        rf"{place}  held-out (16|32): {losses}  mlm loss \d\.\d{{3}}  nsp loss \d\.\d{{3}}",
        rf"{place}  MLM loss \d\.\d\d nats (above|below) the unigram entropy of \d\.\d\d(; a curve .* nats)?",
        r"warning: (step 24 is long past the warm-up|\d+% of a step's time is waiting for input).*",
        r"warning: rows of 16 do not show .*",
    )
    matches = [[text for text in texts if re.fullmatch(form, text)] for form in forms]
    assert [text for text in texts if text and not any(text in of_form for of_form in matches)] == []
    assert len(matches[0]) == 1
    assert len(matches[1]) >= 2
    assert len(matches[2]) == 1
    assert len(matches[3]) == 4


def test_examples_of_packed_rows_are_counted_not_batch_size(options):
    """The mean of the corpus is that of 40 steps."""
    cfg = configured(options, **{"data.packed_rows": 4, "data.long_every": 2, "eval.num_batches": 0, "num_steps": 80})
    spec = pretraining.make_batch_spec(cfg)
    data = pretraining.open_data(cfg, pretraining.open_corpus(cfg), spec, devices=1)
    counts = [batch["attention_mask"].max(axis=1).sum() for n, batch in data.batches_from(0) if n == 32]
    assert data.examples == {32: pytest.approx(np.mean(counts), rel=0.05)}
    assert abs(data.examples[32] - cfg.batch_size) > 0.1 * cfg.batch_size


def test_lines_have_the_documented_keys_at_the_right_steps(whole):
    means = ("loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy")
    keys = {
        "train": {
            "step",
            "kind",
            "seq_len",
            *means,
            "learning_rate",
            "grad_norm",
            "skipped",
            "steps",
            "examples",
            *SPEEDS,
        },  # no mfu on a CPU
        "eval": {"step", "kind", "seq_len", *means},
    }
    lines = metrics(whole)
    assert all(set(line) == keys[line["kind"]] for line in lines)
    at = {kind: [(line["step"], line["seq_len"]) for line in lines if line["kind"] == kind] for kind in keys}
    assert at["train"] == [(step, seq_len) for step in range(4, STEPS + 1, 4) for seq_len in (16, 32)]
    assert sum(line["steps"] for line in lines if line["kind"] == "train") == STEPS
    assert at["eval"] == [(step, seq_len) for step in (12, 24) for seq_len in (16, 32)]
    assert all(line["loss"] == pytest.approx(line["mlm_loss"] + line["nsp_loss"], abs=1e-4) for line in lines)
    assert all(0 <= line["input_wait"] <= 1 for line in lines if line["kind"] == "train")
    rates = {line["step"]: line["learning_rate"] for line in lines if line["kind"] == "train"}
    assert rates[24] == pytest.approx(1e-3 * (1 - 23 / 24), rel=1e-4)  # the rate of the last update, number 23


def test_each_evaluation_shows_the_same_rows(whole):
    first, last = map(json.loads, (whole / "samples.jsonl").read_text().splitlines())
    assert (first["step"], last["step"]) == (12, 24)
    places = [[place for row in line["samples"] for place in row["places"]] for line in (first, last)]
    assert [row["text"] for row in first["samples"]] == [row["text"] for row in last["samples"]]
    assert [place["truth"] for place in places[0]] == [place["truth"] for place in places[1]]
    assert [place["top"] for place in places[0]] != [place["top"] for place in places[1]]
    assert all(len(place["top"]) == 3 for place in places[0])


def test_figures_for_the_checks_can_be_read_without_the_corpus(whole, lock):
    facts = health.read(whole)
    assert facts[:3] == (lock.unigram_entropy, lock.content["train"]["unknown_share"], KEYS["optim.warmup_steps"])
    assert facts.commoner.keys() == {16, 32}
    assert all(0.5 <= share <= 1 for share in facts.commoner.values())


def test_the_workdir_names_its_code(whole):
    (entry,) = versions.read(whole)
    assert entry["step"] == 0
    assert versions.current().items() <= entry.items()


def test_the_way_to_compute_may_change_between_starts_and_the_workdir_says_when(options, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # stops the run after step 8
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 8)
        assert pretraining.run(configured(options), tmp_path) == 0
    assert pretraining.run(configured(options, **{"model.remat": True}), tmp_path) == 0
    assert steps(tmp_path)[-1] == STEPS
    assert [(entry["step"], entry["model.remat"]) for entry in versions.read(tmp_path)] == [(0, False), (8, True)]


def test_tensorboard_shows_the_same_values(whole):
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(whole), size_guidance={"tensors": 0}).Reload()
    written = {
        (tag, event.step): float(tensor_util.make_ndarray(event.tensor_proto))
        for tag in events.Tags()["tensors"]
        for event in events.Tensors(tag)
    }
    expected = {
        (f"{line['kind']}_{line['seq_len']}/{name}", line["step"]): pytest.approx(value, rel=1e-5)
        for line in metrics(whole)
        for name, value in line.items()
        if name not in ("step", "kind", "seq_len")
    }
    assert written == expected


def test_evaluation_is_on_a_fixed_set(options, cfg, whole):
    """Parameters that were read back give the evaluation lines of the last step again, with another seed."""
    other = configured(options, seed=1)
    job, devices = pretraining.make_job(other), mesh.make(jax.devices())
    lock = pretraining.open_corpus(cfg)
    share = host_share.load(lock, "heldout", batch_size=cfg.batch_size)
    evaluate = train_step.jit_evaluate(job, devices)
    programs = train_step.Programs(step={}, evaluate={16: evaluate, 32: evaluate})
    params = saved_params.load_params(whole)
    for _ in range(2):
        batches = corpus_batches.heldout(share, pretraining.make_batch_spec(other), cfg.eval.num_batches)
        sums = loop.evaluate(programs, devices, params, batches)
        for line in metrics(whole)[-2:]:
            means = log.means(log.add_sums({}, sums[line["seq_len"]]), mlm_nsp.OBJECTIVE.losses)
            assert {name: float(f"{mean:.6g}") for name, mean in means.items()}.items() <= line.items()


@pytest.mark.parametrize("place", ["", "checkpoints/15"])
def test_init_from_gives_parameters_only(options, whole, tmp_path, place):
    cfg = configured(options, init_from=str(whole / place), seed=3)
    job, devices = pretraining.make_job(cfg), mesh.make(jax.devices())
    checkpoints = checkpoint.Checkpoints(directory=tmp_path, **cfg.checkpoint)
    state, meta = trainer.restore_or_init(job, devices, checkpoints, pretraining.training(cfg).first_params)
    checkpoints.close()
    theirs = arrays(whole, 15 if place else STEPS)["params"]
    jax.tree.map(np.testing.assert_array_equal, state.params, theirs)
    assert int(state.step) == 0
    assert not any(np.any(x) for x in jax.tree.leaves(state.opt))
    assert meta == {"unlogged": {}}


def test_files_of_a_run_that_are_cut_or_foreign_are_read_or_refused_in_a_sentence(whole):
    clock = hours.Hours(whole, writes=False, units={})
    readers = {
        "config.json": lambda: workdir.read_config(whole),
        "format.json": lambda: workdir.check_format(whole),
        "hours.json": lambda: clock.resume(STEPS),
        "health.json": lambda: health.read(whole),
        "versions.json": lambda: versions.read(whole),
        "metrics.jsonl": lambda: jsonl.read(whole / "metrics.jsonl"),
        "samples.jsonl": lambda: jsonl.read(whole / "samples.jsonl"),
    }
    assert readers.keys() == {path.name for path in whole.glob("*.json*")}
    for name, read in readers.items():
        path = whole / name
        refused = damage.read_or_refused(read, path)
        # JSON lines that are cut have lost steps; that is all.
        assert path.suffix == ".jsonl" or refused > path.stat().st_size - 2
    # Whatever the readers accept, a report can be made of.
    path = whole / "metrics.jsonl"
    damage.read_or_refused(lambda: run.warnings(run.read(whole)), path, every=997)
