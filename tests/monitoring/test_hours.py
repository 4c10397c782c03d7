"""The hours of the phases add up over restarts, and steps lost in a crash are counted."""

import json

from helpers import one_number_job, timed_loop, tiny_runs
import pytest

from bert_tpu.monitoring import hours


@pytest.fixture
def now(monkeypatch):
    """A clock that stops until a test moves it forward."""
    time_s = [1000.0]
    monkeypatch.setattr(hours.time, "monotonic", lambda: time_s[0])

    def later(seconds):
        time_s[0] += seconds

    return later


def start(directory, first_step, age_s=0.0):
    began_s = hours.time.monotonic() - age_s
    clock = hours.Hours(directory, writes=True, units={"cpu": 2}, began_s=began_s)
    clock.resume(first_step)
    return clock


def content(directory):
    return json.loads((directory / "hours.json").read_text())


def test_phases_add_up_to_the_time_since_the_process_began(tmp_path, now):
    clock = hours.Hours(tmp_path, writes=True, units={"cpu": 2}, began_s=995.0)
    now(3)
    clock.resume(0)
    now(2)
    clock.enter("compile")
    now(20)
    for _ in range(10):
        clock.enter("step")
        now(7)
        clock.add_input_wait(1)
    clock.write(10)
    assert content(tmp_path)["seconds"] == {
        "start": 10, "compile": 20, "input": 10, "step": 60, "evaluation": 0, "checkpoint": 0, "lost": 0,
    }  # fmt: skip
    assert clock.summary() == "0 h 02 min in 1 start: step 60.0%, compile 20.0%, start 10.0%, input 10.0%"


def test_a_stop_after_a_save_loses_nothing_and_a_crash_loses_the_time_since_then(tmp_path, now):
    clock = start(tmp_path, 0)
    clock.enter("step")
    now(100)
    clock.mark_saved(10)
    clock.write(10)

    clock = start(tmp_path, 10)
    clock.enter("step")
    now(40)
    clock.mark_saved(14)
    now(30)
    clock.enter("evaluation")
    now(5)
    clock.write(17)  # and then it was killed
    now(1000)  # no process ran

    clock = start(tmp_path, 14, age_s=2.0)
    clock.enter("step")
    now(23)
    clock.write(17)
    written = content(tmp_path)
    assert (written["starts"], written["lost_steps"]) == (3, 3)
    assert written["seconds"] == {
        "start": 2, "compile": 0, "input": 0, "step": 163, "evaluation": 0, "checkpoint": 0, "lost": 35,
    }  # fmt: skip
    assert clock.summary().endswith("in 3 starts: step 81.5%, lost 17.5%, start 1.0% (3 steps done twice)")


def test_a_save_that_did_not_complete_is_lost_time(tmp_path, now):
    """The save of step 20 began and failed, so the run goes on from step 10."""
    clock = start(tmp_path, 0)
    clock.enter("step")
    for step in (10, 20):
        now(100)
        clock.mark_saved(step)
    now(1)
    clock.write(21)
    clock = start(tmp_path, 10)
    clock.enter("step")
    now(50)
    clock.write(15)
    written = content(tmp_path)
    assert (written["lost_steps"], written["seconds"]["lost"], written["seconds"]["step"]) == (11, 101, 150)
    clock = start(tmp_path, 10)  # and once more from there
    clock.write(10)
    assert (content(tmp_path)["lost_steps"], content(tmp_path)["seconds"]["lost"]) == (16, 151)


def test_writes_are_as_rare_as_asked(tmp_path, now):
    clock = start(tmp_path, 0)
    clock.write(1, within_s=10)
    now(9)
    clock.write(2, within_s=10)
    assert content(tmp_path)["unsaved"]["step"] == 1
    now(2)
    clock.write(3, within_s=10)
    assert content(tmp_path)["unsaved"]["step"] == 3


def test_unit_seconds_count_every_phase_of_every_start_and_lost_steps(tmp_path, now):
    clock = start(tmp_path, 0, age_s=4.0)
    now(6)
    clock.write(3)  # and dies with three steps unsaved
    clock = hours.Hours(tmp_path, writes=True, units={"TPU v4": 16}, began_s=hours.time.monotonic() - 1)
    clock.resume(0)
    now(2)
    clock.write(1)
    assert content(tmp_path)["lost_steps"] == 3
    assert content(tmp_path)["unit_seconds"] == {"cpu": 2 * (4 + 6), "TPU v4": 16 * (1 + 2)}


def test_input_that_arrives_while_a_step_is_computed_is_no_wait(tmp_path):
    """Steps are computed in the background, and each takes longer than its input: the device waits for little of it."""
    input_s = 0.02
    turns = round(2 * input_s * timed_loop.turns_a_second())  # on each of eight devices
    assert one_number_job.run(tmp_path, [], turns=turns, input_s=input_s, **{"eval.num_batches": 0}) == 0
    seconds = content(tmp_path)["seconds"]
    assert seconds["step"] > one_number_job.STEPS * input_s
    assert 0 <= seconds["input"] < 0.5 * one_number_job.STEPS * input_s
    waits = [line["input_wait"] for line in tiny_runs.metrics(tmp_path)]
    logged = sum(waits) / len(waits)
    assert seconds["input"] / (seconds["input"] + seconds["step"]) == pytest.approx(logged, abs=0.03)


def test_only_one_process_writes(tmp_path):
    clock = hours.Hours(tmp_path, writes=False, units={})
    clock.resume(0)
    clock.write(1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.2, "0.002"), (90, "0.025"), (360, "0.10"), (5400, "1.50"), (4_500_000, "1,250.00")]
)
def test_hours_have_significant_digits(seconds, text):
    assert hours.in_hours(seconds) == text


def test_a_process_knows_its_age():
    assert 0 < hours.process_age_s() < 24 * 3600
