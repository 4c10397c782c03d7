"""Steps that are skipped: a run reports them, and gives up with the parameters that they were computed from."""

from helpers import one_number_job, tiny_runs
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import hosts
from bert_tpu.report import evidence
from bert_tpu.training import nonfinite, optim, saved_params, workdir


def warnings(text):
    return [line for line in text.splitlines() if line.startswith("warning: ")]


def number(path):
    return float(saved_params.load_params(path)["bias"])


@pytest.mark.parametrize("eval_batches", [0, 1])
def test_each_evaluation_reports_the_steps_skipped_since_the_last_one(tmp_path, capsys, eval_batches):
    bad = [3, 7, 11, 12, 13, 14, 15, 17, 39]
    assert one_number_job.run(tmp_path, bad, **{"eval.num_batches": eval_batches}) == 0
    assert warnings(capsys.readouterr().err) == [
        "warning: 2 of the last 10 steps (20.0%) had no finite loss or gradient and changed nothing; the skipped "
        "steps, counted from 0, are 3, 7; advice for step 3",
        "warning: 6 of the last 10 steps (60.0%) had no finite loss or gradient and changed nothing; the skipped "
        "steps, counted from 0, are 11, 12, 13, 14, 15 .. 17; advice for step 11",
        "warning: 1 of the last 10 steps (10.0%) had no finite loss or gradient and changed nothing; the skipped "
        "steps, counted from 0, are 39; advice for step 39",
    ]


@pytest.mark.parametrize(("bad", "warned"), [(1, False), (2, True)])
def test_one_step_in_a_hundred_is_reported_and_fewer_are_not(tmp_path, capsys, bad, warned):
    steps = {"num_steps": 200, "eval.every_steps": 200, "checkpoint.every_steps": 200, "eval.num_batches": 0}
    assert one_number_job.run(tmp_path, range(50, 50 + bad), **steps) == 0
    assert bool(warnings(capsys.readouterr().err)) == warned


def test_one_of_several_seeds_is_enough_for_a_warning(tmp_path, capsys):
    """One of three seeds skips 1 of 60 steps, which is less than 1% of the steps of all seeds."""
    steps = {"num_steps": 60, "eval.every_steps": 60, "checkpoint.every_steps": 60, "eval.num_batches": 0}
    assert one_number_job.run(tmp_path, [(), (), [30]], seed=(0, 1, 2), **steps) == 0
    [warning] = warnings(capsys.readouterr().err)
    assert "1 of the last 60 steps (1.7%) of one seed, 1 of all 3 seeds together, had no finite" in warning
    assert "are 30; advice for step 30" in warning


def test_a_restart_between_two_evaluations_reports_the_skips_before_it_too(tmp_path, capsys, monkeypatch):
    """The run ends at step 26 and goes on from there; the evaluation of step 30 is about steps 20 to 29."""
    bad = [21, 22, 28]
    with monkeypatch.context() as patch:
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 26)
        assert one_number_job.run(tmp_path, bad, **{"eval.num_batches": 0}) == 0
    assert warnings(capsys.readouterr().err) == []
    assert one_number_job.run(tmp_path, bad, **{"eval.num_batches": 0}) == 0
    [warning] = warnings(capsys.readouterr().err)
    assert "3 of the last 10 steps (30.0%)" in warning
    assert "are 21, 22, 28; advice" in warning


def give_up(directory, bad, stop_after=4, **changes):
    changes = {"nonfinite.stop_after": stop_after, "eval.num_batches": 0, "log.every_steps": 40} | changes
    with pytest.raises(command.UserError, match=rf"{stop_after} steps? in a row, .* advice for step"):
        one_number_job.run(directory, bad, **changes)


@pytest.mark.parametrize("stop_after", [1, 4])
@pytest.mark.parametrize("first", [0, 4, 6])
def test_what_a_run_leaves_as_it_gives_up_is_what_the_skipped_steps_were_computed_from(tmp_path, stop_after, first):
    """The step after the last skipped one is sound, and would move the number by its rate."""
    give_up(tmp_path, range(first, first + stop_after), stop_after)
    rate = optim.make(**one_number_job.OPTIM).rate
    path, missing = nonfinite.params_of(tmp_path, first)
    assert (path, missing) == (tmp_path / nonfinite.FOLDER, 0)
    assert number(path) == pytest.approx(1 - sum(float(rate(step)) for step in range(first)), abs=1e-4)


def test_the_parameters_of_a_run_that_has_gone_on_are_those_of_its_checkpoints(tmp_path):
    give_up(tmp_path, range(12, 16))
    assert nonfinite.params_of(tmp_path, 14) == (tmp_path / nonfinite.FOLDER, 0)
    assert one_number_job.run(tmp_path, [], **{"nonfinite.stop_after": 4, "eval.num_batches": 0}) == 0
    assert nonfinite.params_of(tmp_path, 14) == (tmp_path / "checkpoints" / "10", 4)


def test_a_run_that_gives_up_has_a_line_with_all_that_it_skipped(tmp_path):
    give_up(tmp_path, [2, *range(5, 9)])
    [line] = tiny_runs.metrics(tmp_path)
    assert (line["step"], line["skipped"]) == (9, 5)


def test_the_count_of_a_whole_run_is_right_over_a_restart(tmp_path, monkeypatch):
    """The run ends at step 26, which is no line's end, and goes on from there."""
    bad = [3, 21, 24, 25, 26, 39]
    with monkeypatch.context() as patch:
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 26)
        assert one_number_job.run(tmp_path, bad, **{"eval.num_batches": 0}) == 0
    assert one_number_job.run(tmp_path, bad, **{"eval.num_batches": 0}) == 0
    assert str(evidence.read(tmp_path, workdir.read_config(tmp_path)).skips) == f"{len(bad)} of {one_number_job.STEPS}"
