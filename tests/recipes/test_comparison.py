"""A comparison of recipes from its file to its tables: its runs, a stop in the middle, and a changed file."""

import contextlib
import json
import os
import re
import shutil
import signal

from conftest import ROOT
from helpers import small_bert, tiny_runs
import jax
import numpy as np
import pytest
from scipy import stats

from bert_tpu.core import command, locks
from bert_tpu.data import row_limits
from bert_tpu.distributed import hosts, mesh
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.monitoring import log
from bert_tpu.pretrain import pretraining, several_seeds
from bert_tpu.recipes import (
    comparison,
    config_warnings,
    experiment_file,
    other_results,
    progress,
    runs,
    tables,
    workers,
)
from bert_tpu.tokenizer import vocab
from bert_tpu.training import trainer

H1, H2 = 2e8, 5e8
FILE = """
config = "{config}"
seeds = [0, 1]
horizons = [{h1:g}, {h2:g}]
at_once = 2

[keys]
{keys}

[arms.original]
optim.warmup_steps = 0
optim.warmup_share = 0.2

[arms.tuned]
batch_size = 16
optim.learning_rate = [3e-3]
optim.warmup_steps = 0
optim.warmup_share = 0.1

[tuning]
horizon = {h1:g}
seeds = [0, 1]
"""


def toml(value):
    return str(list(value)) if isinstance(value, tuple) else json.dumps(value)


@pytest.fixture(scope="module")
def text(corpus_dir, tmp_path_factory):
    keys = tiny_runs.keys(corpus_dir, tmp_path_factory) | {"data.seq_lens": (16,), "data.max_predictions": (3,)}
    for own in ("num_steps", "eval.every_steps", "optim.warmup_steps", "optim.learning_rate"):
        del keys[own]
    lines = "\n".join(f"{key} = {toml(value)}" for key, value in keys.items())
    return FILE.format(config=ROOT / tiny_runs.FILE, keys=lines, h1=H1, h2=H2)


def plan_of(text, directory):
    path = directory / "recipes.toml"
    path.write_text(text)
    return experiment_file.read(path)


def planned(plan):
    """The runs of an experiment at its horizons, with the first choices, by arm and horizon."""
    finals = progress.make_finals(plan, progress.choose(plan, [], {}), progress.heldout_facts(plan))
    return sorted(finals, key=lambda run: (run.kind == runs.LEAVE_OUT, run.arm, run.horizon))


def page_of(plan, finals, results):
    """The tables of an experiment whose choices are made."""
    return tables.page(plan, progress.Progress([], progress.choose(plan, [], {}), finals, results, len(results)))


def results_of(out):
    return [json.loads(line) for line in (out / comparison.RESULTS).read_text().splitlines()]


@pytest.fixture(scope="module")
def out(text, tmp_path_factory):
    """The results of the file, after one start that Ctrl-C ended in the middle of its second run."""
    directory = tmp_path_factory.mktemp("recipes")
    plan, out = plan_of(text, directory), directory / "out"
    take, taken = log.Log.step, []

    def interrupt(self, step, *rest):
        taken.append(step)
        if step == 4 and taken.count(4) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        take(self, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.Log, "step", interrupt)
        assert comparison.compare(plan, out) == 130
    assert [line["kind"] for line in results_of(out)] == ["trial", "trial", "horizon", "horizon"]  # of one run
    assert comparison.compare(plan, out) == 0
    return out


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Compiling for eight takes twice as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts, "devices", lambda: jax.devices()[:1])
        yield


def test_every_run_has_a_result_and_the_steps_that_its_horizon_allows(text, out, tmp_path):
    plan, lines = plan_of(text, tmp_path), results_of(out)
    assert [(line["kind"], line["arm"], line["horizon"], line["seed"]) for line in lines] == [
        (kind, arm, horizon, seed)
        for kind, arm, horizon in (
            ("trial", "tuned", H1), ("horizon", "original", H2), ("horizon", "original", H1), ("horizon", "tuned", H1),
            ("horizon", "tuned", H2),
        )
        for seed in (0, 1)
    ]  # fmt: skip
    for line in lines:
        cfg = plan.make_config(plan.arms[line["arm"]].keys, line["steps"])
        job, one_more = pretraining.make_job(cfg), plan.make_config(plan.arms[line["arm"]].keys, line["steps"] + 1)
        assert line["flops"] == line["steps"] * job.flops[16] <= line["horizon"] < runs.work(one_more)
        assert line["token_slots"] == line["steps"] * cfg.batch_size * 16
        assert line["config"] == plan.config  # the line alone says what was trained
        assert line["keys"].items() >= {**plan.keys, **plan.arms[line["arm"]].keys}.items()
        assert 0 < line["step_seconds"] < line["seconds"]
        assert (line["steps"] * cfg.batch_size) / line["epochs"] > 1000
    rates = {line["arm"]: line["keys"].get("optim.learning_rate") for line in lines}
    assert rates == {"original": None, "tuned": 3e-3}
    assert len({line["lengths"]["16"]["mlm_loss"] for line in lines}) == len(lines) - 2  # the best trial is run once


def test_the_trial_with_the_least_mean_loss_is_taken_and_one_that_diverged_never(text, tmp_path):
    plan = plan_of(text.replace("[3e-3]", "[3e-3, 1e-3, 1e-2]\nmodel.dropout = [0.0, 0.2]"), tmp_path)
    trials = list(progress.make_trials(plan, progress.heldout_facts(plan)))
    assert len(trials) == 6
    losses = iter([5.0, 6.0, 4.0, None, 4.9, 4.9, 4.8, 4.8, 3.0, 7.0, 4.7, 5.0])
    results = {
        identity: {"lengths": {"16": {"mlm_loss": next(losses)}, "32": {"mlm_loss": 5.0}}}
        for run in trials
        for identity in run.identities.values()
    }
    best = progress.choose(plan, trials, results)["tuned"]
    longer = {identity: {"lengths": dict(result["lengths"])} for identity, result in results.items()}
    for identity in trials[4].identities.values():
        longer[identity]["lengths"]["32"] = {"mlm_loss": 4.0}
    assert progress.choose(plan, trials, longer)["tuned"]["optim.learning_rate"] == 1e-2  # the mean of both lengths
    assert (best["optim.learning_rate"], best["model.dropout"], best["batch_size"]) == (1e-3, 0.2, 16)
    lone = {identity: result for identity, result in results.items() if identity != trials[3].identities[1]}
    assert progress.choose(plan, trials, lone)["tuned"]["optim.learning_rate"] == 3e-3  # not before all are finished


def test_an_arm_of_which_every_trial_diverged_has_no_other_runs(text, tmp_path, monkeypatch):
    plan, trained = plan_of(text, tmp_path), []

    def diverge(run, seeds, out, _):
        trained.append((run.arm, run.kind))
        line = {"arm": run.arm, "lengths": {"16": {"mlm_loss": None if run.arm == "tuned" else 5.0}}}
        fixed = {
            "flops": run.flops, "seconds": 1.0, "step_seconds": 1.0, "at_once": 2, "epochs": 1.0, "code": "",
            "skipped_steps": 0, "workdir": "runs",
        }  # fmt: skip
        lines = [line | fixed | {"identity": run.identities[seed], "seed": seed} for seed in seeds]
        runs.write_results(out / runs.FOLDER / run.folder(seeds), lines)
        return 0

    monkeypatch.setattr(runs, "train", diverge)
    with pytest.raises(command.UserError, match="no trial of tuned has a finite loss"):
        comparison.compare(plan, tmp_path / "out")
    assert trained == [("tuned", "trial"), ("original", "horizon"), ("original", "horizon")]
    page = (tmp_path / "out" / comparison.TABLES).read_text()
    assert "6 of 6 results are there, one for each run and seed" in page
    assert "tuned: no trial has a finite loss, so it has no runs at the horizons" in page
    assert "| inf |  |" in page  # and not best


def test_a_stopped_run_ends_as_it_would_have_ended_alone(text, out, tmp_path):
    plan, stopped = plan_of(text, tmp_path), results_of(out)[2]
    again = next(run for run in planned(plan) if run.horizon == H2)
    assert (again.arm, stopped["arm"], stopped["horizon"]) == ("original", "original", H2)
    assert runs.train(again, (0, 1), tmp_path, plan.reference()) == 0
    assert runs.finished(tmp_path)[stopped["identity"]]["lengths"] == stopped["lengths"]


def test_a_finished_comparison_trains_nothing_and_a_changed_arm_only_itself(text, out, tmp_path, monkeypatch):
    out = shutil.copytree(out, tmp_path / "out")

    class TrainedError(Exception):
        pass

    def refuse(run, seeds, *_):
        raise TrainedError(run.name, seeds)

    before = results_of(out)
    monkeypatch.setattr(runs, "train", refuse)
    assert comparison.compare(plan_of(text, tmp_path), out) == 0
    assert results_of(out) == before
    assert comparison.compare(plan_of(text.replace("at_once = 2", "at_once = 1"), tmp_path), out) == 0
    with pytest.raises(TrainedError, match=r"original, 5e\+08 FLOPs', \(7,\)"):
        comparison.compare(plan_of(text.replace("seeds = [0, 1]\nhor", "seeds = [0, 1, 7]\nhor"), tmp_path), out)
    with pytest.raises(TrainedError, match=r"original, 5e\+08 FLOPs', \(0, 1\)"):
        comparison.compare(plan_of(change(text, "share = 0.2", "share = 0.3"), tmp_path), out)
    kept = [line for line in results_of(out) if line["arm"] == "tuned"]
    assert kept == [line for line in before if line["arm"] == "tuned"]


def test_results_of_another_machine_count_as_finished(text, out, tmp_path, monkeypatch, capsys):
    lines = (out / comparison.RESULTS).read_text().splitlines(keepends=True)
    (tmp_path / "first.jsonl").write_text("".join(lines[::2]))  # which divides seeds that trained together
    (tmp_path / "second.jsonl").write_text("".join(lines[1::2]))
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    plan, together = plan_of(text, tmp_path), tmp_path / "all"
    assert comparison.outline(plan, together, files) == comparison.outline(plan, out)
    assert not together.exists()
    other_results.take_over(files[:1], together)
    monkeypatch.setattr(runs, "train", None)
    assert comparison.compare(plan, together, files) == 0
    own, first = len(runs.finished(out)), {json.loads(line)["identity"] for line in lines[::2]}
    new = own - len(first)
    said = f"copied {new} results into {together}; it has {own} results of {plan.path}"
    assert said in capsys.readouterr().err
    for name in (comparison.RESULTS, comparison.TABLES):
        assert (together / name).read_text() == (out / name).read_text()


def test_results_of_other_keys_belong_to_no_run(text, out, tmp_path, monkeypatch, capsys):
    def stop(*_):
        return 7

    monkeypatch.setattr(runs, "train", stop)
    plan = plan_of(change(text, "[keys]", "[keys]\noptim.clip_norm = 0.5"), tmp_path)
    assert comparison.compare(plan, tmp_path / "all", [out / comparison.RESULTS]) == 7
    said = capsys.readouterr().err
    assert f"; it has 0 results of {plan.path}" in said
    assert "warning: a result is used only for a run with the same corpus, held-out rows and keys" in said


@pytest.mark.parametrize("bad", ["{", "[]", '{"identity": "a"}'])
def test_a_file_that_has_no_results_is_refused(out, tmp_path, bad):
    first = (out / comparison.RESULTS).read_text().splitlines()[0]
    (tmp_path / "edited.jsonl").write_text(f"{first}\n{bad}\n")
    with pytest.raises(command.UserError, match=r"edited\.jsonl, line 2: .* is missing or of another type"):
        other_results.take_over([tmp_path / "edited.jsonl"], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(command.UserError, match="there is no file"):
        other_results.take_over([tmp_path / "absent.jsonl"], tmp_path / "all")


def test_a_run_starts_from_the_weights_of_a_model_and_is_bound_to_them(text, out, tmp_path):
    folder = next(out.glob("runs/original-*/seed-0")).parent
    identities = {}
    for place, seed in (("model", 0), ("moved", 0), ("other", 1)):
        shutil.copytree(folder / f"seed-{seed}", tmp_path / place)
        plan = plan_of(change(text, "[keys]", f"[keys]\ninit_from = {toml(str(tmp_path / place))}"), tmp_path)
        run = next(run for run in planned(plan) if (run.arm, run.horizon) == ("original", H1))
        identities[place] = set(run.identities.values())
        if place == "model":
            training = several_seeds.training(run.cfg, (0, 1), plan.reference(), tmp_path)
    assert identities["model"] == identities["moved"]
    assert not identities["model"] & identities["other"]
    like = trainer.abstract_state(training.job, mesh.make(jax.devices()[:1])).params
    word = training.first_params(like)["embeddings"]["word"]
    own = pretrained.load(tmp_path / "model").params["embeddings"]["word"]
    assert word.shape[0] == 2
    np.testing.assert_array_equal(word[1, : len(own)], own)


def test_tables_and_plot_show_losses_and_gains(out):
    page = (out / comparison.TABLES).read_text()
    assert "8 of 8 results are there" in page  # a trial at the first horizon is also the arm's run there
    assert page.index("Spread of original at 5e+08 FLOPs over 2 seeds") < page.index("| arm | trial |")
    ends = results_of(out)
    losses = {
        arm: [line["lengths"]["16"]["mlm_loss"] for line in ends if (line["arm"], line["horizon"]) == (arm, H2)]
        for arm in ("original", "tuned")
    }
    difference = np.mean(losses["tuned"]) - np.mean(losses["original"])
    assert f"| tuned | original | 5e+08 | 5e+08 | 16 tokens | {np.mean(losses['tuned']):.4f} (" in page
    assert f" | {difference:+.4f} | " in page
    assert (out / comparison.PLOT).read_bytes().startswith(b"\x89PNG")
    trials = {line["workdir"] for line in results_of(out) if line["kind"] == "trial"}
    for line in results_of(out):
        assert not (out / line["workdir"] / "checkpoints").exists()
        assert (out / line["workdir"] / "seed-0").exists() == (line["workdir"] not in trials)


def invented(every, losses):
    """Results with these losses, run by run, the same for all seeds but for 0.01."""
    return {
        identity: {
            "lengths": {"16": {"mlm_loss": loss + 0.01 * place}}, "code": "", "skipped_steps": 0, "seconds": 1.0,
            "epochs": 1.0, "workdir": f"runs/{run.name}",
        }
        for run, loss in zip(every, losses, strict=True)
        for place, identity in enumerate(run.identities.values())
    }  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "note"),
    [
        ([5.0, 4.9, 4.8], "tuned: the best optim.learning_rate, 0.01, is the largest that was tried"),
        ([4.8, 4.9, 5.0], "tuned: the best optim.learning_rate, 0.001, is the smallest that was tried"),
        ([4.9, 4.8, 5.0], ""),
    ],
)
def test_a_best_value_at_the_end_of_its_list_is_named(text, tmp_path, losses, note):
    plan = plan_of(text.replace("[3e-3]", "[1e-3, 3e-3, 1e-2]\nmodel.dropout = [0.0]"), tmp_path)
    trials = list(progress.make_trials(plan, progress.heldout_facts(plan)))
    results = invented(trials, losses)
    state = progress.Progress(trials, progress.choose(plan, trials, results), [], results, len(results))
    page = tables.page(plan, state)
    assert (note in page, "that was tried" in page) == (True, bool(note))
    del results[trials[0].identities[0]]
    assert "that was tried" not in tables.page(plan, state)


@pytest.mark.parametrize(("losses", "doubted"), [((8.0, 7.9, 7.0), True), ((8.0, 7.0, 6.5), False)])
def test_a_power_law_that_misses_the_losses_by_more_than_a_seed_is_doubted(text, tmp_path, losses, doubted):
    plan = plan_of(change(text, f"horizons = [{H1:g}, {H2:g}]", f"horizons = [{H1:g}, {H2:g}, 1.25e9]"), tmp_path)
    finals = planned(plan)
    page = page_of(plan, finals, invented(finals, [*losses, 7.8, 7.4, 6.9]))
    assert ("do not trust it" in page) == doubted
    assert "Fit of original" in page


def test_runs_of_equal_steps_and_text_at_different_horizons_are_compared(text, tmp_path):
    deep = "[arms.deep]\nmodel.num_layers = 4\nhorizons = [{:g}]\n"
    wide = "[arms.wide]\nbatch_size = 16\nhorizons = [{:g}]\n"
    shallow = next(run for run in planned(plan_of(text, tmp_path)) if run.horizon == H1)
    steps = shallow.cfg.num_steps
    cost = pretraining.make_job(plan_of(text, tmp_path).make_config({"model.num_layers": 4}, steps)).flops[16] * steps
    more = deep.format(1.001 * cost) + wide.format(2.001 * shallow.flops)
    text = change(text, "[tuning]", more + "[tuning]")
    plan = plan_of(text, tmp_path)
    finals = planned(plan)
    assert [(run.arm, run.cfg.num_steps) for run in finals if run.arm in ("deep", "wide")] == [
        ("deep", steps), ("wide", steps),
    ]  # fmt: skip
    page = page_of(plan, finals, invented(finals, range(len(finals), 0, -1)))
    _, _, equal_steps = page.partition("Differences at equal steps")
    rows = [line for line in equal_steps.split("\n\n")[1].splitlines() if "original" in line]
    assert [row.split(" | ")[:2] for row in rows] == [["| deep", "original"]]  # the wide one has seen twice the text


@pytest.mark.parametrize(("loss", "bound"), [(6.4, "above"), (6.6, "below"), (6.5, "")])
def test_an_arm_is_compared_with_references_that_spent_more(text, tmp_path, loss, bound):
    plan = plan_of(text, tmp_path)
    finals = planned(plan)
    results = invented(finals, [7.0, 6.5, loss, 6.0])
    for run, size in zip(finals, (0.01, 0.01, 0.02, 0.02), strict=True):  # or the differences would have no spread
        results[run.identities[1]]["lengths"]["16"]["mlm_loss"] += size
    page = page_of(plan, finals, results)
    base, run = finals[1], finals[2]
    assert (base.arm, base.horizon, run.arm, run.horizon) == ("original", H2, "tuned", H1)
    [row] = [line for line in page.splitlines() if line.startswith("| tuned | original | 2e+08 | 5e+08 | 16 tokens")]
    if not bound:
        assert row.endswith("|  |")
    else:  # rounded outwards
        found, ratio = float(row.split()[-2]), base.flops / run.flops
        assert row.endswith(f"| {bound} {found:.2f} |")
        assert 0 <= (ratio - found if bound == "above" else found - ratio) < 0.01
    low, high = stats.t.interval(0.95, 1, loss - 6.5 + 0.005, stats.sem([loss - 6.5, loss - 6.5 + 0.01]))
    assert f"| {low:+.4f} .. {high:+.4f} |" in row


def test_keys_and_text_that_can_hardly_be_meant_so_are_named_before_the_runs(text, tmp_path, monkeypatch):
    monkeypatch.setattr(row_limits, "LEAST_HELDOUT", 1 << 30)
    text = change(text, "warmup_steps = 0\noptim.warmup_share = 0.1", "warmup_steps = 900\ndata.mask_rate = 0.5")
    text = change(text, "eval.num_batches = 2", "eval.num_batches = 20000")
    outline = comparison.outline(plan_of(text, tmp_path), tmp_path)
    _, *warnings = outline.split("warning: ")
    assert any(
        re.search(r"the held-out text makes [\d,]+ rows of 16 tokens, and an evaluation takes", x) for x in warnings
    )
    assert any(x.startswith("tuned, 5e+08 FLOPs: optim.warmup_steps is 900") for x in warnings)
    assert any("give data.max_predictions = 8" in x for x in warnings)
    assert "--config" not in outline
    said = config_warnings.as_keys(
        "give --config.a=1,2e-3; --config.b=x.y, --config.c=false: or --config bert:like, which"
    )
    assert said == 'give a = [1, 2e-3]; b = "x.y", c = false: or config = "bert:like", which'


def test_a_loss_that_no_vocabulary_has_counts_as_diverged(text, tmp_path):
    plan = plan_of(text, tmp_path)
    finals = planned(plan)
    results = invented(finals, [7.0, 6.5, 73.0, 6.4])
    page = page_of(plan, finals, results)
    assert "| tuned | original | 2e+08 | 16 tokens | line | none: a run diverged |" in page
    assert "diverged for 2 of 2" in page


def gain_row(page, arm="tuned", horizon="2e+08"):
    [row] = [x for x in page.splitlines() if x.startswith(f"| {arm} | original | {horizon} | 16 tokens | line |")]
    return [cell.strip() for cell in row.split("|")[6:9]]


def test_the_gain_of_an_arm_as_good_as_a_longer_run_is_the_ratio_of_their_compute(text, tmp_path):
    plan = plan_of(text, tmp_path)
    _, long, short, _ = finals = planned(plan)
    ratio = f"{long.flops / short.flops:.2f}"
    page = page_of(plan, finals, invented(finals, [7.0, 6.5, 6.5, 6.0]))
    assert gain_row(page) == [ratio, f"{ratio} .. {ratio}", f"{ratio} .. {ratio}"]
    plan = plan_of(change(text, "seeds = [0, 1]\nhor", "seeds = [0]\nhor"), tmp_path)
    finals = planned(plan)
    page = page_of(plan, finals, invented(finals, [7.0, 6.5, 6.5, 6.0]))
    assert gain_row(page) == [ratio, "needs two seeds", "needs two seeds"]


@pytest.mark.filterwarnings("error")
def test_a_seed_of_the_reference_that_diverged_is_named_and_no_table_has_infinity(text, tmp_path):
    plan = plan_of(text, tmp_path)
    finals = planned(plan)
    results = invented(finals, [7.0, 6.5, 6.8, 6.4])
    for run in finals[1::2]:  # of both arms at the second horizon
        results[run.identities[1]]["lengths"]["16"]["mlm_loss"] = None
    page = page_of(plan, finals, results)
    assert "inf" not in page
    assert "nan" not in page
    assert "original, 5e+08 FLOPs: a seed diverged, so the curves of original have no point at this horizon" in page
    assert "| tuned | original | 2e+08 | 5e+08 | 16 tokens | 6.8050 (0.0071) | none: the other run diverged |" in page


def test_a_trial_that_is_also_a_run_at_a_horizon_counts_once(text, tmp_path):
    plan = plan_of(text, tmp_path)
    *_, last = comparison.outline(plan, tmp_path).split("\n\n")
    assert last == f"{2 * sum(run.flops for run in planned(plan)):.4g} FLOPs in all"
    state = progress.read(plan, progress.heldout_facts(plan), {})
    parts = [identity for run, seeds in state.pending(1) for identity in map(run.identities.get, seeds)]
    assert len(parts) == len(set(parts)) == 8


@pytest.mark.parametrize("place", [0, 1])
def test_seeds_far_apart_at_a_horizon_are_named(text, tmp_path, place):
    plan = plan_of(text, tmp_path)
    finals = planned(plan)
    results = invented(finals, [7.0, 6.5, 6.8, 6.4])
    assert "plateau" not in page_of(plan, finals, results)
    results[finals[place].identities[1]]["lengths"]["16"]["mlm_loss"] += 0.29
    horizon = f"{finals[place].flops:.3g}"
    assert f"at {horizon} FLOPs have a deviation of 0.212 nats: some have left" in page_of(plan, finals, results)


def test_skipped_steps_are_counted_once_for_seeds_that_trained_together(text, tmp_path):
    plan = plan_of(change(text, "seeds = [0, 1]\nhor", "seeds = [0, 1, 2]\nhor"), tmp_path)
    run, *_ = finals = planned(plan)
    results = invented(finals, [7.0, 6.5, 6.8, 6.4])
    for (seed, identity), (folder, skipped) in zip(run.identities.items(), (("a", 6), ("a", 6), ("b", 7)), strict=True):
        assert seed in plan.seeds
        results[identity] |= {"workdir": f"runs/{folder}", "skipped_steps": skipped}
    assert f"{run.name}: 13 steps of all seeds had no finite loss" in page_of(plan, finals, results)


def test_results_of_an_older_file_with_other_lengths_are_left_alone(text, out, tmp_path):
    out = shutil.copytree(out, tmp_path / "out")
    before = (out / comparison.TABLES).read_text()
    other = {"identity": "0ld", "seed": 0, "lengths": {n: {"mlm_loss": 1.0} for n in ("8", "16")}}
    (out / "runs/another").mkdir()
    (out / "runs/another/result.json").write_text(json.dumps({"results": [other]}))
    assert comparison.compare(plan_of(text, tmp_path), out) == 0
    assert (out / comparison.TABLES).read_text() == before


@pytest.mark.parametrize(("ramp_steps", "horizon"), [(40, 2e8), (15, 1.1e8)])
def test_a_run_with_a_ramp_of_a_fixed_length_has_the_most_steps_too(text, tmp_path, ramp_steps, horizon):
    plan = plan_of(change(text, "batch_size = 16", f"ramp.rows = [2, 4]\nramp.steps = {ramp_steps}"), tmp_path)
    plan = plan._replace(arms=plan.arms | {"tuned": plan.arms["tuned"]._replace(horizons=(horizon,))})
    keys = progress.choose(plan, [], {})["tuned"]
    run = next(run for run in planned(plan) if run.arm == "tuned")
    steps = run.cfg.num_steps
    assert runs.work(plan.make_config(keys, steps)) <= horizon < runs.work(plan.make_config(keys, steps + 1))
    with pytest.raises(command.UserError, match=r"arm tuned: a ramp of 5,000 steps takes all of the horizon"):
        planned(
            plan._replace(
                keys=plan.keys,
                arms=plan.arms
                | {"tuned": plan.arms["tuned"]._replace(keys=plan.arms["tuned"].keys | {"ramp.steps": 5000})},
            )
        )


def test_a_model_that_changes_during_the_comparison_is_refused(text, out, tmp_path):
    folder = next(out.glob("runs/original-*/seed-0")).parent
    shutil.copytree(folder / "seed-0", tmp_path / "model")
    plan = plan_of(change(text, "[keys]", f"[keys]\ninit_from = {toml(str(tmp_path / 'model'))}"), tmp_path)
    run = planned(plan)[0]
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(folder / "seed-1", tmp_path / "model")
    with pytest.raises(command.UserError, match=r"the model in init_from or distill.teacher has changed"):
        runs.train(run, (0, 1), tmp_path, plan.reference())


@pytest.mark.parametrize("key", ["init_from", "distill.teacher"])
def test_a_model_with_another_tokenizer_is_refused_before_the_first_run(text, tmp_path, key):
    section = planned(plan_of(text, tmp_path))[0].cfg.model
    more = [f"more{number}" for number in range(section.vocab_size - len(small_bert.PIECES))]
    hf.save(
        tmp_path / "model", small_bert.params(section), section, vocab.Vocab((*small_bert.PIECES, *more), lower=True)
    )
    plan = plan_of(change(text, "batch_size = 16", f"{key} = {toml(str(tmp_path / 'model'))}"), tmp_path)
    with pytest.raises(command.UserError, match=r"arm tuned: .*tokenizer"):
        comparison.outline(plan, tmp_path)


def test_a_lever_that_is_left_out_is_compared_with_the_same_seeds(text, out, tmp_path):
    plan = plan_of(text + "[leave_out]\narm = 'tuned'\nseeds = [1]\nlevers.rows = ['batch_size']\n", tmp_path)
    results, finals = runs.finished(out), planned(plan)
    *_, whole, left_out = finals
    own = results[whole.identities[1]]
    for more, shown in ((0.25, "+0.2500"), (None, "")):
        loss = own["lengths"]["16"]["mlm_loss"] + more if more else None
        results[left_out.identities[1]] = own | {"lengths": {"16": {"mlm_loss": loss}}}
        page = page_of(plan, finals, results)
        assert f" | {shown} | " in page[page.index("| rows | ") :]
    assert "diverged for 1 of 1" in page


def test_a_start_takes_the_runs_that_no_other_has_and_waits_for_theirs(text, out, tmp_path, monkeypatch, capsys):
    plan, whole = plan_of(text, tmp_path), results_of(out)
    out = shutil.copytree(out, tmp_path / "out")
    theirs, ours = (next(out.glob(f"runs/{arm}-5e08-*")) for arm in ("original", "tuned"))
    (theirs / runs.RESULT).rename(theirs / "later.json")
    shutil.rmtree(ours)
    done = contextlib.ExitStack()  # what the other start has reserved
    assert done.enter_context(locks.hold(theirs / workers.TAKEN))
    slept = []

    def other_start(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            assert (ours / runs.RESULT).exists()
            (theirs / "later.json").rename(theirs / runs.RESULT)
            done.close()

    monkeypatch.setattr(comparison.time, "sleep", other_start)
    assert comparison.compare(plan, out) == 0
    assert [{"loss": runs.loss(line), "id": line["identity"]} for line in results_of(out)] == [
        {"loss": pytest.approx(runs.loss(line), rel=1e-5), "id": line["identity"]} for line in whole
    ]
    said = capsys.readouterr().err
    assert said.count("run 5 of 5: tuned, 5e+08 FLOPs") == said.count("waiting for the runs of other starts") == 1
    assert "; 1 other start is at work" in said


def test_a_start_of_another_file_is_refused_and_changes_nothing(text, out, tmp_path):
    plan, finished, out = plan_of(text, tmp_path), out, tmp_path / "out"
    out.mkdir()
    with workers.join(out, plan.path.read_text()), workers.join(out, plan.path.read_text()):
        other = plan_of(change(text, "share = 0.2", "share = 0.3"), tmp_path)
        before = sorted(out.rglob("*"))
        with pytest.raises(command.UserError, match=r"another comparison is using .*: stop it or give another --out"):
            comparison.compare(other, out, [finished / comparison.RESULTS])
        assert sorted(out.rglob("*")) == before


def test_the_example_of_the_page_is_complete(corpus_dir, tmp_path):
    page = (ROOT / "docs/tuning_recipes.md").read_text()
    [example] = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    here = change(example, 'data.dir = "corpus"', f'data.dir = "{corpus_dir}"')
    here = change(here, "model.vocab_size = 30522", "model.vocab_size = 400")
    outline = comparison.outline(plan_of(here, tmp_path), tmp_path)
    assert outline.count("| fast, trial ") == outline.count("| original, trial ") == 3
    assert "| fast without dropout, 1.8e+15 FLOPs | 1 |" in outline


def change(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("at_once", "atonce", "the file has an unknown key, atonce: did you mean at_once?"),
        ("at_once = 2", "at_once = 0", "at_once is 0: give 1 or more"),
        ("seeds = [0, 1]\nhor", "seeds = [0, 0]\nhor", r"seeds is \[0, 0\]: give different whole numbers"),
        (f"horizons = [{H1:g}, {H2:g}]", "", "the file lacks horizons"),
        (f"[{H1:g}, {H2:g}]", f"[{H2:g}, {H1:g}]", "give FLOPs in ascending order"),
        (f"[{H1:g}, {H2:g}]", f"[3.0, {H2:g}]", "arm original: a step takes .* FLOPs, more than the horizon 3"),
        ("[arms.tuned]", "[arms.original2]\nseed = 3\n[arms.tuned]", "arms.original2 has seed, but `seeds` names"),
        ("[arms.tuned]", "[arms.'a b']\n[arms.tuned]", "'a b' needs a name of letters"),
        ("[arms.tuned]", "[arms.tuned]\ndata.dir = 'x'", r"arms.tuned has data.dir, but put it into \[keys\]"),
        ("batch_size = 16", "batchsize = 16", "arm tuned: .*has no key batchsize: did you mean batch_size"),
        ("batch_size = 16", "model = [1, 2]", "arm tuned: .*config.model is a section"),
        ("batch_size = 16", "batch_size = []", "arms.tuned chooses batch_size from no values"),
        ("batch_size = 16", "batch_size = 1.5", "arm tuned: .*batch_size=1.5: give a whole number"),
        ("batch_size = 16", "model.max_positions = 8", "arm tuned: config.model: max_positions 8 is less than"),
        ("share = 0.1", "share = 2", "arm tuned: .*warmup_share"),
        ("batch_size = 16", "batch_size = { share = 0.5 }", "arm tuned: .*batch_size.share"),
        ("batch_size = 16", "ramp.rows = [2, 4]\nramp.steps = 'x'", "arm tuned: .*ramp.steps=x: give a whole number"),
        ("[tuning]", "[tunings]", "the file has an unknown key, tunings: did you mean tuning"),
        ("[tuning]\nhorizon = 2e+08\nseeds = [0, 1]", "", "has a choice, optim.learning_rate, and there is no table"),
        ("batch_size = 16", "horizons = [5e8, 2e8]", "horizons of arms.tuned is .*: give FLOPs in ascending order"),
        ("at_once = 2", "references = [['original']]", "references names .'original'., and no arm has that name"),
        (
            "[arms.tuned]",
            "[leave_out]\narm = 'tuned'\nlevers.x = ['batch_size']\n[arms.tuned]\nhorizons = [2e8]",
            "leave_out.arm is tuned, which has no run at the largest horizon",
        ),
        (
            "at_once = 2",
            "references = ['origin']",
            "references names origin, and no arm has that name: did you mean original",
        ),
        (
            "[tuning]",
            "[leave_out]\narm = 'tuned'\nlevers.x = ['model.dropout']\n[tuning]",
            "levers.x names model.dropout, which arms.tuned does not set",
        ),
        ("[tuning]", "[leave_out]\narm = 'tuned'\nlevers.x = []\nseeds = [7]\n[tuning]", "seeds is .7.: give some of"),
        ("at_once = 2", "references = ['tuned', 'tuned']", "references names tuned 2 times"),
        (
            "[3e-3]\noptim.warmup_steps = 0\noptim.warmup_share = 0.1\n\n[tuning]",
            "3e-3\n[tuning]\nhorizn = 1",
            "tuning has an unknown key, horizn: did you mean horizon",
        ),
        ("at_once = 2", "at_once = ", "is not valid TOML"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_run(text, tmp_path, old, new, message):
    with pytest.raises(command.UserError, match=message):
        comparison.outline(plan_of(change(text, old, new), tmp_path), tmp_path)


RAMP = {"ramp.rows": [2, 4], "ramp.share": 0.3}


@pytest.mark.parametrize("schedule", [{"data.schedule": "phased"}, {"data.schedule": "mixed"}, RAMP])
@pytest.mark.parametrize("budget", [1e9, 3.7e9, 4.123e10])
def test_steps_are_the_most_that_the_budget_allows(text, tmp_path, schedule, budget):
    keys = {"data.seq_lens": [16, 32], "data.max_predictions": [3, 5], **schedule}
    plan = plan_of(text, tmp_path)
    calls = []

    def work(steps):
        calls.append(steps)
        return runs.work(plan.make_config(keys, steps))

    steps = runs.most_steps(work, budget)
    assert len(calls) < 25
    assert work(steps) <= budget < work(steps + 1)
