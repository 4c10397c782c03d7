"""A step whose scores the fast softmax cannot take is computed with the exact one, and changes nothing but time."""

import itertools
import json

from helpers import small_bert, tiny_finetunings, tiny_runs
import jax
import numpy as np
import pytest

from bert_tpu.core import config
from bert_tpu.distributed import hosts, mesh
from bert_tpu.finetune import finetuning
from bert_tpu.huggingface import hf
from bert_tpu.pretrain import pretraining
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint, jobs, nonfinite, train_step, trainer, workdir

STEPS = 12
KEYS = {
    "num_steps": STEPS, "checkpoint.every_steps": 5, "eval.every_steps": 6, "log.every_steps": 1, "batch_size": 16,
    "data.long_every": 4,
}  # fmt: skip
SPEEDS = ("input_wait", "examples_per_sec", "tokens_per_sec", "recomputed")
# Factor by which queries and keys of fresh weights grow; scores grow by its square. The fast form takes all steps up to
# a factor of 16, none from 64 on, and at MIXED some, before and after others.
MIXED = 46
LENGTHS = (16, 32)
BREAKS = (5, 6, 10)  # after these steps comes an evaluation or a save, so no step is dispatched ahead


@pytest.fixture(scope="module")
def options(corpus_dir, tmp_path_factory):
    return tiny_runs.keys(corpus_dir, tmp_path_factory) | KEYS


@pytest.fixture(scope="module")
def start_of(options, tmp_path_factory):
    """A function: factor -> path of fresh parameters whose queries and keys are that many times larger."""

    def start(factor):
        path = tmp_path_factory.mktemp("start")
        cfg = tiny_runs.configured(options)
        params = jax.device_get(pretraining.make_job(cfg).init(jax.random.key(0)))
        checkpoint.save_params(path, scaled(params, factor))
        # tools.import_pytorch also writes the config and the tokenizer next to the parameters.
        (path / "config.json").write_text(json.dumps({"model": cfg.model.to_dict()}))
        workdir.write_tokenizer(path, vocab.load(cfg.data.dir))
        return str(path)

    return start


def scaled(params, factor):
    """Returns the packed parameters with queries and keys that are `factor` times larger."""
    params = jax.tree.map(np.array, params)
    for name in ("query", "key"):
        params["layers"]["attention"][name]["kernel"] *= factor
    return params


def run(options, directory, **changes):
    assert pretraining.run(tiny_runs.configured(options, **changes), directory) == 0
    return directory


def arrays(directory, step):
    """Returns parameters and optimizer state of a checkpoint."""
    path = directory / "checkpoints" / str(step)
    with checkpoint.ocp.StandardCheckpointer() as checkpointer:
        return {name: checkpointer.restore(path / name) for name in ("params", "opt")}


def assert_same_bits(directory, other):
    """Asserts that checkpoints, samples and metrics without speeds are equal."""
    for step in (5, 10, STEPS):
        jax.tree.map(np.testing.assert_array_equal, arrays(directory, step), arrays(other, step))
    assert tiny_runs.metrics(directory, SPEEDS) == tiny_runs.metrics(other, SPEEDS)
    assert (directory / "samples.jsonl").read_text() == (other / "samples.jsonl").read_text()


def counts(directory, name):
    """Returns the number of `name` steps in each line of the training, 0 if the line has no such key."""
    return [line.get(name, 0) for line in tiny_runs.metrics(directory) if line["kind"] == "train"]


@pytest.fixture(scope="module")
def exact(options, start_of, tmp_path_factory):
    """(A start whose steps the fast form cannot take, the workdir of a run from there with the exact form)."""
    start = start_of(256)
    return start, run(options | {"init_from": start, "model.softmax": "exact"}, tmp_path_factory.mktemp("exact"))


def test_a_run_whose_steps_are_all_computed_again_has_the_bits_of_an_exact_one(options, exact, tmp_path, capfd):
    """On eight devices, with evaluations at steps 6 and 12 and saves at 5, 10 and 12."""
    start, other = exact
    run(options | {"init_from": start}, tmp_path)
    assert counts(tmp_path, "recomputed") == [1] * STEPS
    assert counts(tmp_path, "skipped") == counts(other, "skipped") == [0] * STEPS
    assert_same_bits(tmp_path, other)
    printed = capfd.readouterr().err
    assert printed.count("100.0% of the steps since the last evaluation were computed again") == 2
    for length in LENGTHS:
        assert printed.count(f"compiling the exact one for length {length}, ") == 1


def test_a_run_that_was_stopped_after_steps_computed_again_ends_with_the_same_bits(options, exact, tmp_path):
    start, other = exact
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 7)
        run(options | {"init_from": start}, tmp_path)
    assert tiny_runs.steps(tmp_path) == [5, 7]
    run(options | {"init_from": start}, tmp_path)
    assert_same_bits(tmp_path, other)
    assert counts(tmp_path, "recomputed") == [1] * STEPS


def test_steps_in_parts_are_computed_again_with_the_bits_of_exact_ones(options, exact, tmp_path):
    keys = options | {"init_from": exact[0], "accumulate": 2}
    run(keys, tmp_path / "fast")
    assert counts(tmp_path / "fast", "recomputed") == [1] * STEPS
    assert_same_bits(tmp_path / "fast", run(keys | {"model.softmax": "exact"}, tmp_path / "exact"))


def test_a_run_equals_single_steps_each_by_the_form_that_can_take_it(options, start_of, tmp_path, capfd):
    """Bit for bit: some steps are computed again and others are not, and some were dispatched ahead."""
    keys = options | {"init_from": start_of(MIXED)}
    run(keys, tmp_path)
    assert counts(tmp_path, "skipped") == [0] * STEPS
    state, again = one_by_one(tiny_runs.configured(keys))
    assert counts(tmp_path, "recomputed") == again
    jax.tree.map(np.testing.assert_array_equal, arrays(tmp_path, STEPS)["params"], state.params)
    # Steps that the fast form could take were dispatched ahead, on a state that waited.
    assert {(1, 0), (0, 1)} <= {pair for step, pair in enumerate(itertools.pairwise(again), 1) if step not in BREAKS}
    assert "of the steps since the last evaluation were computed again" in capfd.readouterr().err
    assert any("recomputed" in line for line in tiny_runs.metrics(tmp_path))


def one_by_one(cfg):
    """Returns (last state, for each step whether it was computed again). Each step ends before the next begins."""
    training, on = pretraining.training(cfg), mesh.make(jax.devices())
    programs = training.compile_programs(on)
    exact = {length: programs.compile_exact(length) for length in LENGTHS}
    job = training.job
    fresh = jax.jit(lambda params: jobs.new_state(job, params), out_shardings=train_step.shardings(job, on))
    state, again = fresh(training.first_params(trainer.abstract_state(job, on).params)), []
    batches = training.open_data(on.size, hosts.Hosts()).batches_from(0)
    for seq_len, batch in (next(batches) for _ in range(cfg.num_steps)):
        placed = mesh.put_batch(batch, on)
        state, sums = programs.step[seq_len](state, placed)
        again.append(int(sums["recomputed"][0]))
        if again[-1]:
            state, _ = exact[seq_len](state, placed)
    return jax.device_get(state), again


def test_of_several_trainings_at_once_each_has_the_bits_of_exact_steps(tmp_path):
    """Two seeds; the fast form cannot take the pretrained weights."""
    params = small_bert.params()
    for layer in range(small_bert.SECTION["num_layers"]):
        for name in ("query", "key"):
            params[f"layer_{layer}"]["attention"][name]["kernel"] *= 30
    hf.save(tmp_path / "model", params, small_bert.SECTION, small_bert.VOCAB)
    file, data = tiny_finetunings.classes(tmp_path)
    for form in ("bounded", "exact"):
        cfg = config.load(file)
        keys = tiny_finetunings.KEYS | {f"data.{key}": value for key, value in data.items()} | {"model.softmax": form}
        cfg.update_from_flattened_dict(keys | {"init_from": str(tmp_path / "model"), "optim.learning_rate": 1e-4})
        assert finetuning.run(cfg, tmp_path / form) == 0
    fast, other = (tmp_path / form for form in ("bounded", "exact"))
    assert counts(fast, "recomputed") == [1] * tiny_finetunings.STEPS
    assert counts(fast, "skipped") == counts(other, "skipped") == [0] * tiny_finetunings.STEPS
    jax.tree.map(
        np.testing.assert_array_equal, arrays(fast, tiny_finetunings.STEPS), arrays(other, tiny_finetunings.STEPS)
    )
    assert tiny_runs.metrics(fast, SPEEDS) == tiny_runs.metrics(other, SPEEDS)
    assert json.loads((fast / "scores.json").read_text()) == json.loads((other / "scores.json").read_text())


def test_a_step_that_no_form_can_take_is_skipped_and_counted_once(options, start_of, tmp_path, capfd):
    """Queries so large that scores are infinite in float32."""
    keys = options | {"init_from": start_of(1e30), "nonfinite.stop_after": 0}
    run(keys, tmp_path)
    assert counts(tmp_path, "skipped") == [1] * STEPS
    assert "computed again with the exact softmax" not in capfd.readouterr().err
    first, last = (arrays(tmp_path, step)["params"] for step in (5, STEPS))
    jax.tree.map(np.testing.assert_array_equal, first, last)


@pytest.mark.parametrize(("again", "share"), [(1, None), (2, "2.0%"), (100, "100.0%")])
def test_a_warning_comes_if_more_than_one_step_in_a_hundred_was_computed_again(again, share):
    counter = nonfinite.RecomputedSteps()
    for step in range(100):
        counter.count({"recomputed": (float(step < again), 1.0), "skipped": (0.0, 1.0)})
    warning = counter.report()
    assert warning == "" if share is None else warning.startswith(f"{share} of the steps since")
    assert counter.report() == ""  # it begins at 0 again
