"""Several seeds in one program: each learns what it would learn in a run of its own."""

import types

from helpers import tiny_runs
import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import hosts, mesh
from bert_tpu.huggingface import pretrained
from bert_tpu.pretrain import pretraining, several_seeds
from bert_tpu.report import evidence
from bert_tpu.training import jobs, saved_params, train_step, trainer, workdir

SEEDS = 3, 8
SHORT = {
    "data.seq_lens": (16,), "data.max_predictions": (3,), "num_steps": 12, "eval.every_steps": 12, "seed": 8,
    "batch_size": 16, "ramp.rows": (8,), "ramp.steps": 4,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_devices():
    """Compiling for eight takes twice as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts, "devices", lambda: jax.devices()[:2])
        yield


@pytest.fixture(scope="module")
def cfg(corpus_dir, tmp_path_factory):
    return tiny_runs.configured(tiny_runs.keys(corpus_dir, tmp_path_factory), **SHORT, **{"model.dropout": 0.3})


@pytest.fixture(scope="module")
def alone(cfg, tmp_path_factory):
    """The workdir of an ordinary run with the second seed."""
    directory = tmp_path_factory.mktemp("alone")
    assert pretraining.run(cfg, directory) == 0
    return directory


@pytest.fixture(scope="module")
def together(cfg, tmp_path_factory):
    """The workdir of both seeds in one program."""
    directory = tmp_path_factory.mktemp("together")
    first = cfg.copy_and_resolve_references()
    first.seed = SEEDS[0]
    training = several_seeds.training(first, SEEDS, cfg, directory)
    assert trainer.run(first, training, directory) == 0
    several_seeds.save_models(directory, first, training.vocabulary, SEEDS)
    return directory


def test_a_seed_among_several_ends_where_it_ends_alone(cfg, alone, together):
    [line] = [line for line in tiny_runs.metrics(alone) if line["kind"] == "eval"]
    heldout = several_seeds.read(together)
    assert heldout["seeds"] == list(SEEDS)
    for name in ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"):
        assert heldout["lengths"]["16"][name][1] == pytest.approx(line[name], rel=1e-5)
    one = saved_params.load_params(alone)
    many = saved_params.load_params(together)
    jax.tree.map(lambda x, own: np.testing.assert_allclose(x[1], own, atol=2e-6), many, one)
    first, second = heldout["lengths"]["16"]["mlm_loss"]
    assert abs(first - second) > 1e-4


def test_the_model_of_each_seed_can_be_read_and_the_workdir_says_where_it_is(alone, together):
    saved, own = pretrained.load(together / "seed-8"), pretrained.load(alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), saved.params, own.params)
    assert not np.allclose(
        saved.params["embeddings"]["word"], pretrained.load(together / "seed-3").params["embeddings"]["word"]
    )
    measured = evidence.read(together / "seed-8", workdir.read_config(together / "seed-8"))
    heldout = several_seeds.read(together)["lengths"]["16"]
    assert {name: measured.heldout[16][name] for name in heldout} == {name: both[1] for name, both in heldout.items()}
    assert (measured.config["seed"], "seeds" in measured.config, measured.config["num_steps"]) == (8, False, 12)
    assert measured.versions == evidence.read(together, workdir.read_config(together)).versions
    with pytest.raises(command.UserError, match=r"run of several seeds, with a model for each: give .*/seed-3"):
        pretrained.load(together)


def test_flops_are_of_all_seeds_together_and_the_rows_come_first(cfg):
    job = pretraining.make_job(cfg)
    many = several_seeds.stacked(job, (1, 2, 3))
    assert many.flops[16] == 3 * job.flops[16]
    assert many.shapes[16]["masked_ids"] == (16, 3, 3)
    assert several_seeds.stacked(job, (5,)).shapes == job.shapes


def test_the_log_has_the_mean_over_the_seeds(together):
    [line] = [line for line in tiny_runs.metrics(together) if line["kind"] == "eval"]
    both = several_seeds.read(together)["lengths"]["16"]["mlm_loss"]
    assert line["mlm_loss"] == pytest.approx(np.mean(both), rel=1e-5)


def test_the_held_out_rows_do_not_follow_the_config_that_is_trained(cfg, tmp_path):
    """Two recipes begin with the same parameters, so their held-out losses are equal before a step."""
    other = {
        "batch_size": 8, "data.seq_lens": (8, 12), "data.max_predictions": (3, 4), "data.mask_rate": 0.4,
        "data.nsp_share": 0.0, "model.dropout": 0.5, "ramp.rows": (), "ramp.steps": 0,
    }  # fmt: skip
    contents = []
    for changes in ({}, other):
        arm = cfg.copy_and_resolve_references()
        arm.update_from_flattened_dict(changes | {"seed": SEEDS[0]})
        training = several_seeds.training(arm, SEEDS, cfg, tmp_path)
        on = mesh.make(jax.devices()[:1])
        evaluate = train_step.jit_evaluate(several_seeds.evaluation_job(arm, cfg, SEEDS), on)
        programs, state = train_step.Programs({}, {16: evaluate}), jobs.new_state(training.job)
        silent = types.SimpleNamespace(evaluation=lambda *_: None)
        training.open_data(1, None).evaluate(programs, on, state, silent, arm.num_steps)
        contents.append(several_seeds.read(tmp_path))
    first, second = contents
    assert first["lengths"] == second["lengths"]
    assert first["epochs"] != second["epochs"]
