"""The health checks: each fault causes its own warning, and a sound run causes none."""

from helpers import tiny_runs
from hypothesis import given, settings, strategies
import numpy as np
import pytest

from bert_tpu.monitoring import health, power_law
from bert_tpu.pretrain import pretraining

FACTS = health.Facts(unigram_entropy=6.9, unknown_share=0.001, warmup_steps=10_000, commoner={128: 0.52, 512: 0.51})
STEPS = range(10_000, 1_000_001, 10_000)


def evaluation(step, seq_len=128, **changes):
    """A line of a sound run: its loss is a power law that begins at the unigram entropy, with an evaluation's noise."""
    loss = 1.6 + 60 * step**-0.3 + 0.005 * np.sin(step * (1 + seq_len))
    line = {"step": step, "kind": "eval", "seq_len": seq_len, "mlm_loss": loss, "mlm_accuracy": 1 - loss / 7}
    return line | {"nsp_accuracy": 0.52 + 0.4 * (1 - 10_000 / (step + 10_000))} | changes


def sound(until=1_000_000):
    return [
        line for step in STEPS if step <= until
        for line in (
            {"step": step, "kind": "train", "seq_len": 128, "mlm_loss": 3.0, "input_wait": 0.02},
            evaluation(step), evaluation(step, 512),
        )
    ]  # fmt: skip


def names(lines, facts=FACTS):
    return [finding.name for finding in health.check(lines, facts)]


def test_a_sound_run_causes_no_warning_at_any_time():
    assert all(names(sound(until)) == [] for until in STEPS)


def test_a_loss_at_the_unigram_entropy_long_after_warmup_is_reported():
    flat = [line | ({"mlm_loss": 6.88} if line["kind"] == "eval" else {}) for line in sound(50_000)]
    assert names(flat) == ["flat"]
    assert names([line for line in flat if line["step"] <= 30_000]) == []


def test_nsp_at_chance_while_mlm_falls():
    stuck = [line | ({"nsp_accuracy": 0.525} if line["kind"] == "eval" else {}) for line in sound(100_000)]
    assert names(stuck) == ["nsp"]
    [finding] = health.check(stuck, FACTS)
    assert "52.5%" in finding.sentence
    assert "51.0%" in finding.sentence
    one_learns = [line | ({"nsp_accuracy": 0.9} if line["seq_len"] == 512 else {}) for line in stuck]
    assert names(one_learns) == []


@pytest.mark.parametrize("seq_len", [128, 512])
def test_a_loss_that_rises_after_the_switch(seq_len):
    lines = sound(900_000)
    risen = evaluation(910_000, seq_len)["mlm_loss"] + 0.3
    assert names([*lines, evaluation(910_000, seq_len, mlm_loss=risen)]) == ["rose"]
    assert names([*lines, evaluation(910_000, seq_len)]) == []


def test_nsp_at_chance_counts_only_evaluations_after_the_first_pairs():
    lines = [
        evaluation(step, seq_len, nsp_accuracy=0.52)
        for step in range(10_000, 130_000, 10_000)
        for seq_len in (128, 512)
    ]
    assert names(lines) == ["nsp"]
    assert names(lines, FACTS._replace(first_nsp_step=100_000)) == []


def test_the_commoner_label_is_that_of_all_batches_and_hosts():
    assert health.commoner_shares([[[128, 100, 20], [128, 50, 40]], [[128, 50, 50]]]) == {128: 0.55}


def test_accuracy_too_good_to_be_true():
    assert names([*sound(100_000), evaluation(110_000, mlm_accuracy=0.93)]) == ["too good"]


def test_a_vocabulary_that_does_not_know_the_text_is_reported():
    assert names(sound(20_000), FACTS._replace(unknown_share=0.04)) == ["unknown"]


def test_waits_for_input_since_the_last_evaluation_but_one():
    waiting = [line | ({"input_wait": 0.3} if line["kind"] == "train" else {}) for line in sound(50_000)]
    assert names(waiting) == ["input"]
    assert names([*waiting, *(line for line in sound(80_000) if line["step"] > 50_000)]) == []


def test_the_share_of_waiting_is_of_all_the_time_whatever_the_lengths():
    """Waiting is 21% of 9 steps of 10 ms, and nothing of 1 step of 110 ms: 18.9 of 200 ms, below the limit of 10%."""
    lengths = [(128, 0.21, 9, 100.0), (512, 0.0, 1, 1 / 0.11)]
    lines = [
        {"step": 10, "kind": "train", "seq_len": n, "input_wait": wait, "steps": steps, "examples_per_sec": rate}
        for n, wait, steps, rate in lengths
    ]
    assert names(lines) == []
    lines[1]["steps"] = 0.5  # 18.9 of 145 ms
    [finding] = health.check(lines, FACTS)
    assert finding.sentence.startswith("13% of a step's time is waiting for input")


def test_the_share_of_waiting_is_of_all_the_time_in_a_ramp_too():
    """10 steps of 256 examples in 100 s, of which 20% are waited, and 10 of 1,024 in 300 s, 5%: 35 of 400 s."""
    sizes = [(10, 0.2, 256, 25.6), (20, 0.05, 1024, 34.1333)]
    lines = [
        {"step": step, "kind": "train", "seq_len": 128, "input_wait": wait, "steps": 10, "examples": examples,
         "examples_per_sec": rate} for step, wait, examples, rate in sizes
    ]  # fmt: skip
    assert names(lines) == []
    del lines[0]["examples"], lines[1]["examples"]  # a line of an earlier release does not say
    assert names(lines) == ["input"]


def test_the_fit_returns_the_curve_that_the_points_are_on():
    steps = np.arange(1, 30) * 1e4
    curve = power_law.fit(steps, 1.5 + 40 * steps**-0.25)
    assert (curve.floor, curve.drop, curve.exponent) == pytest.approx((1.5, 40, 0.25), rel=1e-6)
    assert power_law.fit(steps[:3], steps[:3]) is None


def test_a_loss_that_stopped_being_finite_is_reported_and_no_earlier_one_stands_for_it():
    lines = [*sound(300_000), evaluation(310_000, mlm_loss=None)]
    assert names(lines) == ["not_finite"]
    text = health.remark(lines, FACTS, 1_000_000)
    assert text.startswith("MLM loss not finite at step 310,000; it was ")
    assert text.endswith(" nats at step 300,000")
    lines.append(evaluation(320_000))
    assert names(lines) == []
    assert "not finite" not in health.remark(lines, FACTS, 1_000_000)


def test_the_remark_says_how_far_below_the_entropy_and_where_the_curve_ends():
    text = health.remark(sound(500_000), FACTS, 1_000_000)
    loss, end = evaluation(500_000)["mlm_loss"], 1.6 + 60 * 1e6**-0.3
    assert f"{6.9 - loss:.2f} nats below the unigram entropy of 6.90" in text
    assert float(text.split()[-2]) == pytest.approx(end, abs=0.05)


NUMBERS = strategies.one_of(strategies.none(), strategies.floats(), strategies.integers(-5, 10**7), strategies.text())
KEYS = ("step", "seq_len", "mlm_loss", "mlm_accuracy", "nsp_accuracy", "input_wait", "steps", "examples_per_sec")
LINES = strategies.lists(
    strategies.fixed_dictionaries(
        {"kind": strategies.sampled_from(("eval", "train"))}, optional=dict.fromkeys(KEYS, NUMBERS)
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(LINES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_line_makes_it_fail(lines):
    health.check(lines, FACTS)
    health.remark(lines, FACTS, 10)


def run(corpus_dir, tmp_path_factory, workdir, **changes):
    keys = tiny_runs.keys(corpus_dir, tmp_path_factory) | {
        "num_steps": 16, "eval.every_steps": 4, "checkpoint.every_steps": 16, "optim.warmup_steps": 1,
        "data.seq_lens": (16,), "data.max_predictions": (3,),
    }  # fmt: skip
    assert pretraining.run(tiny_runs.configured(keys, **changes), workdir) == 0


def test_a_run_that_learns_nothing_says_so_once(corpus_dir, tmp_path_factory, tmp_path, capsys):
    run(corpus_dir, tmp_path_factory, tmp_path, **{"optim.learning_rate": 0.0})
    output = capsys.readouterr().err
    assert output.count("warning: step 4 is long past the warm-up and the MLM loss") == 1
    assert output.count("above the unigram entropy of") == 4


def test_a_corpus_of_unknown_words_causes_a_warning_at_the_first_evaluation(
    corpus_dir, tmp_path_factory, tmp_path, capsys, monkeypatch
):
    open_corpus = pretraining.open_corpus

    def unknown(cfg):
        lock = open_corpus(cfg)
        lock.content["train"]["unknown_share"] = 0.25
        return lock

    monkeypatch.setattr(pretraining, "open_corpus", unknown)
    run(corpus_dir, tmp_path_factory, tmp_path)
    assert capsys.readouterr().err.count("warning: 25.0% of the corpus is [UNK]") == 1
