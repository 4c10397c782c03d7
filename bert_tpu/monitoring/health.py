"""Checks of a pretraining: compares metrics.jsonl with figures of the corpus, and names the known faults."""

from collections.abc import Callable, Iterable, Sequence
import itertools
import json
import os
from typing import Any, NamedTuple, TypeGuard

from etils import epath
import numpy as np

from bert_tpu.core import command, json_files, storage
from bert_tpu.monitoring import metrics, power_law
from bert_tpu.monitoring.metrics import Metric

FILE = "health.json"
SHAPE = {"unigram_entropy": float, "unknown_share": float, "warmup_steps": int, "commoner": {str: float}}
NEAR_NATS = 0.05  # a loss this near to the unigram entropy, or above: the model has learnt word frequencies alone
FALLEN_NATS = 0.3  # a loss this far below the unigram entropy: the model learns words
STUCK, STUCK_TIMES = 0.02, 3  # at most this far above the commoner label, in as many evaluations in a row
ROSE_NATS, ROSE_DEVIATIONS = 0.1, 4  # a rise above the fitted curve: in nats, and in deviations of its residuals
UNKNOWN, WAIT = 0.01, 0.1  # largest sound shares of [UNK] in the text, and of a step's time spent on input

Line = dict[str, Any]  # of metrics.jsonl
Evaluations = dict[int, list[Line]]  # by sequence length, each list in the order of its steps


class Facts(NamedTuple):
    """Figures of the corpus and the config that a run's metrics are compared with."""

    unigram_entropy: float  # nats, of the training text
    unknown_share: float  # [UNK] among its tokens
    warmup_steps: int
    commoner: dict[int, float]  # sequence length -> share of the commoner NSP label in the evaluation split
    metrics: tuple[Metric, ...] = metrics.BEFORE  # those of the run's objective
    first_nsp_step: int = 0  # before it the rows have no labels of pairs

    @property
    def language_model(self) -> Metric | None:
        """The loss that the unigram entropy is the baseline of."""
        return next((metric for metric in self.metrics if metric.baseline == metrics.UNIGRAM_ENTROPY), None)


def commoner_shares(counts: Iterable[Iterable[Sequence[int]]]) -> dict[int, float]:
    """Share of the commoner NSP label at each sequence length. counts: corpus_batches.label_counts of each host."""
    totals: dict[int, list[int]] = {}
    for n, examples, random in itertools.chain.from_iterable(counts):
        total = totals.setdefault(n, [0, 0])
        totals[n] = [total[0] + examples, total[1] + random]
    return {n: max(random, examples - random) / examples for n, (examples, random) in totals.items()}


def write(directory: str | os.PathLike, facts: Facts) -> None:
    """Writes `facts` to W/health.json, so that the run can be checked when its corpus is gone."""
    content = facts._asdict() | {"metrics": [metric._asdict() for metric in facts.metrics]}
    storage.write_text(epath.Path(directory) / FILE, json.dumps(content, indent=1) + "\n")


def read(directory: str | os.PathLike) -> Facts | None:
    """Reads W/health.json. None if there is none, as in runs before 2026-12; UserError if it is damaged."""
    path = epath.Path(directory) / FILE
    if not path.exists():
        return None
    try:
        content = json_files.read(path, SHAPE, remedy="delete it")
        if "metrics" in content:  # not in runs of before they were listed
            content["metrics"] = tuple(Metric(**metric) for metric in content["metrics"])
        facts = Facts(**content)
        return facts._replace(commoner={int(n): share for n, share in facts.commoner.items()})
    except (ValueError, TypeError):
        raise command.UserError(f"{path} is damaged: delete it") from None


class Finding(NamedTuple):
    """A likely fault of a run, and what to look at."""

    name: str
    sentence: str


def remark(lines: Iterable[Line], facts: Facts, num_steps: int) -> str | None:
    """Compares the newest loss of the shortest rows with the unigram entropy, and says where a fitted curve ends."""
    lines = list(lines)
    loss, evaluations = facts.language_model, _by_length(lines, facts)
    if not loss or not evaluations:
        return None
    shortest = evaluations[min(evaluations)]
    newest = shortest[-1]
    if step := _not_finite_at(lines, loss):
        return (
            f"{loss.label} not finite at step {step:,}; it was {newest[loss.name]:.2f} nats at step {newest['step']:,}"
        )
    below = facts.unigram_entropy - newest[loss.name]
    side = "below" if below >= 0 else "above"
    text = f"{loss.label} {abs(below):.2f} nats {side} the unigram entropy of {facts.unigram_entropy:.2f}"
    curve = _curve(shortest, loss, facts)
    if curve and newest["step"] < num_steps:
        text += f"; a curve through the evaluations so far ends at {curve.at(num_steps):.2f} nats"
    return text


def check(lines: Iterable[Line], facts: Facts) -> list[Finding]:
    """The known faults in `lines`, the lines of metrics.jsonl up to now; each name at most once."""
    lines = list(lines)
    evaluations = _by_length(lines, facts)
    checks: list[Callable[[Evaluations, Facts], Finding | None]] = [_flat, _stuck, _rose, _too_good]
    findings = [finding for check in checks if (finding := check(evaluations, facts))]
    if facts.language_model and (step := _not_finite_at(lines, facts.language_model)):
        findings.append(Finding("not_finite", (
            f"the {facts.language_model.label} at step {step:,} is not a finite number, although the parameters are: "
            "logits overflow; a lower optim.learning_rate in a new --workdir often fixes it"
        )))  # fmt: skip
    if facts.unknown_share > UNKNOWN:
        findings.append(Finding("unknown", (
            f"{facts.unknown_share:.1%} of the corpus is [UNK]: the vocabulary does not fit this text; train one on it "
            "(bert-tpu train-tokenizer), or check that its case and alphabet are the text's"
        )))  # fmt: skip
    waiting = _input_share(lines, facts)
    if waiting > WAIT:
        findings.append(Finding("input", (
            f"{waiting:.0%} of a step's time is waiting for input: the host's processors are too few or too busy"
        )))  # fmt: skip
    return findings


def _by_length(lines: Iterable[Line], facts: Facts) -> Evaluations:
    """The evaluations that have a finite loss."""
    keys = ["step", "seq_len", *([facts.language_model.name] if facts.language_model else [])]
    evaluations: Evaluations = {}
    for line in lines:
        if line.get("kind") == "eval" and all(_is_number(line.get(key)) for key in keys):
            evaluations.setdefault(line["seq_len"], []).append(line)
    return evaluations


def _not_finite_at(lines: Iterable[Line], loss: Metric) -> int:
    """Returns the step of the newest evaluation if its loss is not finite for some length, else 0."""
    own = [line for line in lines if line.get("kind") == "eval" and _is_number(line.get("step")) and "seq_len" in line]
    newest = {line["seq_len"]: line for line in own if line["step"] == own[-1]["step"]}
    return own[-1]["step"] if any(not _is_number(line.get(loss.name)) for line in newest.values()) else 0


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _past_warmup(evaluations: list[Line], facts: Facts, times: int = 1) -> list[Line]:
    return [line for line in evaluations if line["step"] > times * facts.warmup_steps]


def _curve(evaluations: list[Line], loss: Metric, facts: Facts) -> power_law.Curve | None:
    past = _past_warmup(evaluations, facts)
    return power_law.fit([line["step"] for line in past], [line[loss.name] for line in past])


def _flat(evaluations: Evaluations, facts: Facts) -> Finding | None:
    loss = facts.language_model
    late = _past_warmup(evaluations[min(evaluations)], facts, times=3) if evaluations else []
    if not loss or not late or late[-1][loss.name] < facts.unigram_entropy - NEAR_NATS:
        return None
    newest = late[-1]
    return Finding("flat", (
        f"step {newest['step']:,} is long past the warm-up and the {loss.label}, {newest[loss.name]:.2f} nats, is "
        f"still not below the unigram entropy of {facts.unigram_entropy:.2f}: it knows word frequencies at most; "
        "look at the learning rate (too high or too low) and at the batches (bert-tpu show-batches)"
    ))  # fmt: skip


def _stuck(evaluations: Evaluations, facts: Facts) -> Finding | None:
    labels = [metric for metric in facts.metrics if metric.baseline == metrics.COMMONER_LABEL]
    findings = (_stuck_at_commoner(evaluations, facts, metric) for metric in labels)
    return next((finding for finding in findings if finding), None)


def _stuck_at_commoner(evaluations: Evaluations, facts: Facts, metric: Metric) -> Finding | None:
    """A finding only if all lengths agree: NSP is hard in short rows, which alone prove nothing."""
    loss = facts.language_model
    for seq_len, lines in evaluations.items():
        trained = [line for line in lines if line["step"] > facts.first_nsp_step]
        accuracies = [line.get(metric.name) for line in trained[-STUCK_TIMES:]]
        chance = facts.commoner.get(seq_len)
        numbers = [accuracy for accuracy in accuracies if _is_number(accuracy)]
        if len(numbers) < STUCK_TIMES or chance is None:
            return None
        has_learnt = not loss or lines[-1][loss.name] < facts.unigram_entropy - FALLEN_NATS
        if not has_learnt or max(numbers) > chance + STUCK:
            return None
    if not evaluations:
        return None
    seq_len = max(evaluations)
    learns = f"learns {loss.task} but not {metric.task}" if loss else f"does not learn {metric.task}"
    return Finding(metric.name.removesuffix("_accuracy"), (
        f"the model {learns}: {evaluations[seq_len][-1][metric.name]:.1%} right at {seq_len} tokens, "
        f"where always the commoner label is right at {facts.commoner[seq_len]:.1%}; {metric.advice}"
    ))  # fmt: skip


def _rose(evaluations: Evaluations, facts: Facts) -> Finding | None:
    loss = facts.language_model
    if not loss:
        return None
    for seq_len, lines in sorted(evaluations.items(), reverse=True):
        curve, newest = _curve(lines[:-1], loss, facts), lines[-1]
        if not curve:
            continue
        above = newest[loss.name] - max(curve.at(newest["step"]), curve.floor)
        lowest = min(line[loss.name] for line in lines[:-1])
        if above > max(ROSE_NATS, ROSE_DEVIATIONS * curve.deviation) and newest[loss.name] > lowest:
            return Finding("rose", (
                f"the held-out {loss.label} at {seq_len} tokens is {newest[loss.name]:.2f} nats, {above:.2f} above the "
                f"curve of the evaluations before step {newest['step']:,}, the lowest of which was {lowest:.2f}; it "
                "should fall again within some thousand steps if the row length changed there; if not, lower the "
                "learning rate"
            ))  # fmt: skip
    return None


def _too_good(evaluations: Evaluations, facts: Facts) -> Finding | None:
    limited = [(metric, metric.too_good) for metric in facts.metrics if metric.too_good is not None]
    for metric, limit in limited:
        for seq_len, lines in evaluations.items():
            accuracy = lines[-1].get(metric.name)
            if _is_number(accuracy) and accuracy > limit:
                return Finding("too good", (
                    f"{accuracy:.1%} {metric.unit.removeprefix('% ')} of held-out text are right at {seq_len} tokens, "
                    f"too good to be true: {metric.advice}"
                ))  # fmt: skip
    return None


def _input_share(lines: Iterable[Line], facts: Facts) -> float:
    """Share of the steps' time spent waiting for input, since the last evaluation but one."""
    lines = list(lines)
    ends = sorted({line["step"] for rows in _by_length(lines, facts).values() for line in rows})
    since = ends[-2] if len(ends) > 1 else 0
    late = [
        line for line in lines
        if line.get("kind") == "train" and all(_is_number(line.get(key)) for key in ("step", "input_wait"))
        and line["step"] > since
    ]  # fmt: skip
    if not late:
        return 0.0
    times = [time for line in late if (time := _seconds(line)) is not None]
    weights = times if len(times) == len(late) else None
    return float(np.average([line["input_wait"] for line in late], weights=weights))


def _seconds(line: Line) -> float | None:
    """Time of a training line's steps; None if the line does not say.

    Lines of earlier releases do not have the examples of a step. There they count as 1, so that the times of a run with
    one batch size are right but for a factor.
    """
    steps, rate, examples = line.get("steps"), line.get("examples_per_sec"), line.get("examples", 1.0)
    if not (_is_number(steps) and _is_number(rate) and _is_number(examples)):
        return None
    return steps * examples / rate if min(steps, rate, examples) > 0 else None
