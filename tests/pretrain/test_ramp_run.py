"""A run with a batch ramp: its steps are those of runs with its batch sizes, and an interruption changes no bit."""

import os
import signal

from helpers import tiny_runs
import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import hosts, mesh
from bert_tpu.model import flops, transformer
from bert_tpu.monitoring import log
from bert_tpu.pretrain import __main__ as main
from bert_tpu.pretrain import pretraining
from bert_tpu.training import checkpoint, jobs

STEPS, FULL = 20, 32
RAMP = {"ramp.rows": (8, 16), "ramp.steps": 12}  # stages begin at 0, 6 and 12
KEYS = {
    "batch_size": FULL, "num_steps": STEPS, "optim.schedule": "constant", "checkpoint.every_steps": 6,
    "log.every_steps": 4, "eval.num_batches": 0, "data.seq_lens": (16,), "data.max_predictions": (3,),
}  # fmt: skip
SPEEDS = ("input_wait", "examples_per_sec", "tokens_per_sec")


@pytest.fixture(scope="module", autouse=True)
def few_devices():
    """Compiling for eight takes twice as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts, "devices", lambda: jax.devices()[:1])
        yield


@pytest.fixture(scope="module")
def options(corpus_dir, tmp_path_factory):
    return tiny_runs.keys(corpus_dir, tmp_path_factory) | KEYS


@pytest.fixture(scope="module")
def whole(options, tmp_path_factory):
    """The workdir of a run without interruption."""
    directory = tmp_path_factory.mktemp("whole")
    assert pretraining.run(tiny_runs.configured(options, **RAMP), directory) == 0
    return directory


def state(directory, step=STEPS):
    path = directory / "checkpoints" / str(step)
    with checkpoint.ocp.StandardCheckpointer() as checkpointer:
        return {name: checkpointer.restore(path / name) for name in ("params", "opt")}


def test_the_first_stage_is_a_run_with_its_batch_size(options, whole, tmp_path):
    cfg = tiny_runs.configured(options, batch_size=8, num_steps=6)
    assert pretraining.run(cfg, tmp_path) == 0
    jax.tree.map(np.testing.assert_array_equal, state(tmp_path, 6), state(whole, 6))


def test_an_interruption_in_any_stage_changes_no_bit(options, whole, tmp_path, monkeypatch, capsys):
    take = log.Log.step
    cfg = tiny_runs.configured(options, **RAMP)
    for at in (5, 8):  # the signal comes during a step, so these save at a stage's beginning and within it
        with monkeypatch.context() as patch:
            patch.setattr(
                log.Log,
                "step",
                lambda self, step, *rest, at=at: (
                    (os.kill(os.getpid(), signal.SIGTERM) if step == at else None) or take(self, step, *rest)
                ),
            )
            assert pretraining.run(cfg, tmp_path) == 143
        assert tiny_runs.steps(tmp_path)[-1] == at + 1
    assert pretraining.run(cfg, tmp_path) == 0
    jax.tree.map(np.testing.assert_array_equal, state(tmp_path), state(whole))
    assert tiny_runs.metrics(tmp_path, SPEEDS) == tiny_runs.metrics(whole, SPEEDS)


def test_a_start_compiles_the_sizes_that_are_still_to_come(options):
    training = pretraining.training(tiny_runs.configured(options, **RAMP))
    assert [*training.compile_programs(mesh.make(jax.devices()), 7).step] == [(16, 16), (16, 32)]


def test_the_work_of_a_run_is_the_sum_over_its_steps(options):
    cfg = tiny_runs.configured(options, **RAMP)
    bert = transformer.Bert(**cfg.model, parent=None, name=None)
    each = [flops.train(bert, rows, 16, 3) for rows in [8] * 6 + [16] * 6 + [FULL] * 8]
    cfg_of_muon = tiny_runs.configured(options, **RAMP, **{"optim.name": "muon"})
    of_muon = jobs.work(pretraining.make_job(cfg_of_muon), pretraining.make_batch_spec(cfg_of_muon), 7)
    assert of_muon == sum(each[:7]) + 7 * flops.muon(bert)  # as much in a small step as in a full one
    for steps in (0, 7, STEPS):
        assert jobs.work(pretraining.make_job(cfg), pretraining.make_batch_spec(cfg), steps) == sum(each[:steps])


def test_a_step_of_the_ramp_is_replayed_with_its_rows(options, whole, capsys):
    main.replay_step(tiny_runs.configured(options, **RAMP), whole, 7)
    assert "rows: 0 of 16 not finite" in capsys.readouterr().out


def test_a_config_file_and_a_run_that_lack_the_ramp_go_on(options, tmp_path):
    cfg = tiny_runs.configured(options, num_steps=3)
    without = cfg.copy_and_resolve_references().unlock()
    del without.ramp
    assert pretraining.make_batch_spec(without) == pretraining.make_batch_spec(cfg)
    assert pretraining.run(without, tmp_path) == 0
    assert pretraining.run(cfg, tmp_path) == 0
    with pytest.raises(command.UserError, match=r"belongs to another config: ramp.rows is \[\] there and \[8\] here"):
        pretraining.run(tiny_runs.configured(options, num_steps=3, **{"ramp.rows": (8,), "ramp.steps": 2}), tmp_path)
