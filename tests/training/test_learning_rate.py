"""The logged learning rate is the one that moves the parameters, whichever steps are skipped."""

from helpers import one_number_job, small_bert, tiny_finetunings, tiny_runs, warm_processes
from helpers.one_number_job import RATE, STEPS
import jax
import numpy as np
import pytest

from bert_tpu.core import config
from bert_tpu.distributed import mesh
from bert_tpu.finetune import finetuning
from bert_tpu.pretrain import pretraining
from bert_tpu.training import jobs, saved_params, train_step

SHORT = {
    "num_steps": 6, "log.every_steps": 1, "data.seq_lens": (16,), "data.max_predictions": (3,), "eval.num_batches": 0,
}  # fmt: skip


def number_after(directory, step):
    return float(saved_params.load_params(directory / "checkpoints" / str(step))["bias"])


def test_parameters_move_by_the_logged_rates_where_every_fourth_step_is_skipped(tmp_path):
    bad = range(3, STEPS, 4)
    often = {"log.every_steps": 1, "checkpoint.every_steps": 1, "eval.num_batches": 0}
    assert one_number_job.run(tmp_path, bad, **often) == 0
    rates = {line["step"]: line["learning_rate"] for line in tiny_runs.metrics(tmp_path)}
    assert (max(rates.values()), min(rates.values())) == (RATE, 0)
    numbers = [1.0, *(number_after(tmp_path, step) for step in range(1, STEPS + 1))]
    moved = -np.diff(numbers)
    expected = [0 if step in bad else rates[step + 1] for step in range(STEPS)]
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["adamw", "lamb", "muon"])
def test_of_several_trainings_each_moves_by_the_one_rate(rule):
    """One is never skipped, one every fourth time, and one all the first half."""
    bad = [(), range(3, STEPS, 4), range(STEPS // 2)]
    job, devices = one_number_job.job(seed=(0, 1, 2), name=rule), mesh.make(jax.devices())
    state = jax.jit(lambda: jobs.new_state(job), out_shardings=train_step.shardings(job, devices))()
    step, numbers = train_step.bound_step(job, devices, one_number_job.SEQ_LEN), []
    for number in range(STEPS):
        numbers.append(np.asarray(state.params["bias"]))
        state, sums = step(state, mesh.put_batch(one_number_job.batch(bad, number, job.seed)[1], devices))
        np.testing.assert_array_equal(sums["skipped"][0], [number in of for of in bad])
    moved = -np.diff(numbers, axis=0)
    for training, of in enumerate(bad):
        expected = [0 if number in of else float(job.learning_rate(number)) for number in range(STEPS - 1)]
        np.testing.assert_allclose(moved[:, training], expected, rtol=1e-4, atol=1e-6)


def warned(text):
    """Returns the warning about a peak that is not reached, and the rate in it."""
    [sentence] = [line for line in text.splitlines() if "never reaches the peak, " in line]
    return sentence, float(sentence.split(" rises to ")[1].split()[0])


def test_a_pretraining_prints_the_peak_of_its_width_and_reaches_it(corpus_dir, tmp_path_factory, tmp_path, capsys):
    keys = tiny_runs.keys(corpus_dir, tmp_path_factory) | SHORT
    assert keys["model.hidden_size"] == 32
    more = {"optim.warmup_steps": 0, "optim.warmup_share": 0.5, "optim.rate_width": 128, "optim.schedule": "linear"}
    assert pretraining.run(tiny_runs.configured(keys | more), tmp_path) == 0
    printed = capsys.readouterr().err
    assert "never reaches" not in printed
    [sentence] = [line for line in printed.splitlines() if line.startswith("peak learning rate")]
    assert sentence == (
        "peak learning rate 0.002: optim.learning_rate 0.001 x sqrt(optim.rate_width 128 / hidden size 32)"
    )
    rates = [line["learning_rate"] for line in tiny_runs.metrics(tmp_path)]
    np.testing.assert_allclose(rates, 2e-3 * np.array([0, 1, 2, 3, 2, 1]) / 3, rtol=1e-4)


@pytest.mark.parametrize("warmup_steps", [6, 10_000])
def test_a_pretraining_says_at_its_start_that_it_never_reaches_its_peak(
    corpus_dir, tmp_path_factory, tmp_path, capsys, warmup_steps
):
    keys = tiny_runs.keys(corpus_dir, tmp_path_factory) | SHORT | {"optim.warmup_steps": warmup_steps}
    assert pretraining.run(tiny_runs.configured(keys), tmp_path) == 0
    printed = capsys.readouterr().err
    sentence, highest = warned(printed)
    assert sentence.startswith(f"warning: optim.warmup_steps is {warmup_steps:,} and num_steps 6: the learning rate ")
    assert highest == pytest.approx(max(line["learning_rate"] for line in tiny_runs.metrics(tmp_path)), rel=0.01)
    assert printed.index(sentence) < printed.index("step 1/6")


def test_a_fine_tuning_that_warms_up_to_its_end_says_so_too(tmp_path, capsys):
    name, data = tiny_finetunings.classes(tmp_path)
    cfg = config.load(name)
    cfg.update_from_flattened_dict(tiny_finetunings.KEYS | {f"data.{key}": value for key, value in data.items()})
    cfg.update_from_flattened_dict(
        {"init_from": str(small_bert.save(tmp_path / "model", small_bert.SHALLOW)), "warmup": 1.0}
    )
    assert finetuning.run(cfg, tmp_path / "run") == 0
    sentence, highest = warned(capsys.readouterr().err)
    assert sentence.startswith(f"warning: warmup is 1.0 and num_steps {tiny_finetunings.STEPS}: ")
    lines = [line for line in tiny_runs.metrics(tmp_path / "run") if line["kind"] == "train"]
    assert highest == pytest.approx(max(line["learning_rate"] for line in lines), rel=0.01)


def test_batches_of_a_run_that_never_reaches_its_peak_can_be_looked_at(corpus_dir, tmp_path_factory):
    keys = tiny_runs.keys(corpus_dir, tmp_path_factory) | {"num_steps": 6, "optim.warmup_steps": 10_000}
    words = [word for word in tiny_runs.words(keys, "") if not word.startswith("--workdir")]
    done = warm_processes.run("tools.show_batches", [*words, "--steps=2", "--json", "--rows=0"])
    assert (done.returncode, done.stderr) == (0, "")
