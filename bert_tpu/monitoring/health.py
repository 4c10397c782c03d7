"""Is a run right? What the lines of metrics.jsonl say of it beside its corpus, in words, and the known faults."""

import itertools
import json
from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import command, storage

FILE = "health.json"
NEAR_NATS = 0.05  # of the unigram entropy: nothing but frequencies is learnt
FALLEN_NATS = 0.3  # below it: words are being learnt
STUCK, STUCK_TIMES = 0.02, 3  # NSP above the commoner label by less, in so many evaluations in a row
ROSE_NATS, ROSE_DEVIATIONS = 0.1, 4  # above the fitted curve, at least and in its residuals
# BERT-large is right at some 70% of the masked pieces of clean text; nothing compact is near that.
TOO_GOOD = 0.8
UNKNOWN, WAIT = 0.01, 0.1
FEWEST = 4  # evaluations that a curve is put through
EXPONENTS = np.linspace(0.1, 1.5, 29)


class Facts(NamedTuple):
    """What a run's lines are held against."""

    unigram_entropy: float  # nats, of the training text
    unknown_share: float  # of its tokens
    warmup_steps: int
    commoner: dict[int, float]  # sequence length -> share of the commoner NSP label in the held-out rows


def commoner_shares(counts) -> dict[int, float]:
    """Sequence length -> share of the commoner NSP label. counts: data.label_counts of each host."""
    totals = {}
    for n, examples, random in itertools.chain.from_iterable(counts):
        total = totals.setdefault(n, [0, 0])
        totals[n] = [total[0] + examples, total[1] + random]
    return {n: max(random, examples - random) / examples for n, (examples, random) in totals.items()}


def write(directory, facts) -> None:
    """W/health.json holds `facts`: what the lines were held against can be told when the corpus is gone."""
    storage.write_text(epath.Path(directory) / FILE, json.dumps(facts._asdict(), indent=1) + "\n")


def read(directory) -> Facts | None:
    """What `write` wrote; None where it did not, as in a run before 2026-12."""
    path = epath.Path(directory) / FILE
    if not path.exists():
        return None
    try:
        facts = Facts(**json.loads(path.read_text()))
        return facts._replace(commoner={int(n): share for n, share in facts.commoner.items()})
    except (ValueError, TypeError, AttributeError):
        raise command.UserError(f"{path} is damaged: delete it") from None


class Finding(NamedTuple):
    """A fault that is likely, and what to look at."""

    name: str
    sentence: str


class Curve(NamedTuple):
    """loss = floor + drop x step ** -exponent, and the deviation of what it was fitted to."""

    floor: float
    drop: float
    exponent: float
    deviation: float

    def at(self, step) -> float:
        """The loss that it foresees."""
        return self.floor + self.drop * step**-self.exponent


def fit(steps, losses) -> Curve | None:
    """The least squares of a falling power law with a floor of 0 or more; None of fewer than FEWEST points.

    The form is that of Kaplan et al. 2020, arXiv:2001.08361, with the irreducible part of Henighan et al. 2020,
    arXiv:2010.14701; exponents are tried one by one, the rest is linear.
    """
    if len(steps) < FEWEST:
        return None
    steps, losses, best = np.asarray(steps, float), np.asarray(losses, float), None
    for exponent in EXPONENTS:
        falling = steps**-exponent
        design = np.stack([np.ones_like(falling), falling], axis=1)
        (floor, drop), *_ = np.linalg.lstsq(design, losses, rcond=None)
        if floor < 0:
            floor, drop = 0.0, float(falling @ losses / (falling @ falling))
        rest = losses - floor - drop * falling
        if best is None or rest @ rest < best[0]:
            deviation = float(np.sqrt(rest @ rest / max(1, len(steps) - 3)))
            best = rest @ rest, Curve(float(floor), float(drop), float(exponent), deviation)
    return best[1]


def remark(lines, facts, num_steps) -> str | None:
    """The newest evaluation of the shortest rows beside the unigram entropy, and where a fitted curve ends."""
    held = _heldout(lines)
    if not held:
        return None
    newest = held[min(held)][-1]
    below = facts.unigram_entropy - newest["mlm_loss"]
    side = "below" if below >= 0 else "above"
    said = f"MLM loss {abs(below):.2f} nats {side} the unigram entropy of {facts.unigram_entropy:.2f}"
    curve = _curve(held[min(held)], facts)
    if curve and newest["step"] < num_steps:
        said += f"; a curve through the evaluations so far ends at {curve.at(num_steps):.2f} nats"
    return said


def check(lines, facts) -> list[Finding]:
    """The known faults that `lines`, metrics.jsonl's up to now, show; a name comes once."""
    held = _heldout(lines)
    checks = _flat, _stuck, _rose, _too_good
    found = [warning for each in checks for warning in [each(held, facts)] if warning]
    if facts.unknown_share > UNKNOWN:
        found.append(Finding("unknown", (
            f"{facts.unknown_share:.1%} of the corpus is [UNK]: the vocabulary is not of this text; train one on it "
            "(tools.train_tokenizer), or look whether its case or alphabet fits"
        )))  # fmt: skip
    waited = _waited(lines)
    if waited > WAIT:
        found.append(Finding("input", (
            f"{waited:.0%} of a step's time is waiting for input: the host's processors are too few or busy"
        )))  # fmt: skip
    return found


def _heldout(lines):
    """Sequence length -> its evaluations in their order, those with finite losses."""
    held = {}
    for line in lines:
        if line.get("kind") == "eval" and all(_is_number(line.get(key)) for key in ("step", "seq_len", "mlm_loss")):
            held.setdefault(line["seq_len"], []).append(line)
    return held


def _is_number(value):
    return isinstance(value, int | float) and np.isfinite(value)


def _past_warmup(evaluations, facts, times=1):
    return [line for line in evaluations if line["step"] > times * facts.warmup_steps]


def _curve(evaluations, facts):
    past = _past_warmup(evaluations, facts)
    return fit([line["step"] for line in past], [line["mlm_loss"] for line in past])


def _flat(held, facts):
    late = _past_warmup(held[min(held)], facts, times=3) if held else []
    if not late or late[-1]["mlm_loss"] < facts.unigram_entropy - NEAR_NATS:
        return None
    newest = late[-1]
    return Finding("flat", (
        f"step {newest['step']:,} is long past the warm-up and the MLM loss, {newest['mlm_loss']:.2f} nats, is still "
        f"at the unigram entropy of {facts.unigram_entropy:.2f}: only frequencies are learnt; look at the learning "
        "rate (too high or too low) and at the batches (tools.show_batches)"
    ))  # fmt: skip


def _stuck(held, facts):
    """At every length, so that short rows, whose NSP is hard, do not cry alone."""
    for seq_len, evaluations in held.items():
        accuracies = [line.get("nsp_accuracy") for line in evaluations[-STUCK_TIMES:]]
        chance = facts.commoner.get(seq_len)
        if len(accuracies) < STUCK_TIMES or chance is None or not all(map(_is_number, accuracies)):
            return None
        has_learnt = evaluations[-1]["mlm_loss"] < facts.unigram_entropy - FALLEN_NATS
        if not has_learnt or max(accuracies) > chance + STUCK:
            return None
    if not held:
        return None
    seq_len = max(held)
    return Finding("nsp", (
        f"MLM is learnt but NSP is not: {held[seq_len][-1]['nsp_accuracy']:.1%} right at {seq_len} tokens, where "
        f"always the commoner label is right at {facts.commoner[seq_len]:.1%}; look whether documents keep the order "
        "of their sentences and are longer than one (tools.describe_corpus)"
    ))  # fmt: skip


def _rose(held, facts):
    for seq_len, evaluations in sorted(held.items(), reverse=True):
        curve, newest = _curve(evaluations[:-1], facts), evaluations[-1]
        if not curve:
            continue
        above = newest["mlm_loss"] - max(curve.at(newest["step"]), curve.floor)
        lowest = min(line["mlm_loss"] for line in evaluations[:-1])
        if above > max(ROSE_NATS, ROSE_DEVIATIONS * curve.deviation) and newest["mlm_loss"] > lowest:
            return Finding("rose", (
                f"the held-out MLM loss at {seq_len} tokens is {newest['mlm_loss']:.2f} nats, {above:.2f} above the "
                f"curve of the evaluations before step {newest['step']:,}, which were down to {lowest:.2f}: if the row "
                "length changed there it should come back within some thousand steps; if not, lower the learning rate"
            ))  # fmt: skip
    return None


def _too_good(held, facts):
    del facts
    for seq_len, evaluations in held.items():
        accuracy = evaluations[-1].get("mlm_accuracy")
        if _is_number(accuracy) and accuracy > TOO_GOOD:
            return Finding("too good", (
                f"{accuracy:.1%} of the masked pieces of held-out text are right at {seq_len} tokens, too good to be "
                "true: its text is likely in the training text too, or is boilerplate; prepare the corpus with "
                "--duplicates near"
            ))  # fmt: skip
    return None


def _waited(lines):
    """Share of the steps' time since the last evaluation but one that went by waiting for input."""
    ends = sorted({line["step"] for rows in _heldout(lines).values() for line in rows})
    since = ends[-2] if len(ends) > 1 else 0
    late = [
        line for line in lines
        if line.get("kind") == "train" and all(_is_number(line.get(key)) for key in ("step", "input_wait"))
        and line["step"] > since
    ]  # fmt: skip
    seconds = [_seconds(line) for line in late]
    if not all(seconds):
        seconds = None
    return float(np.average([line["input_wait"] for line in late], weights=seconds)) if late else 0.0


def _seconds(line):
    """Time that the steps of a training line took, in units of seconds / batch size; None where it is not known."""
    steps, rate = line.get("steps"), line.get("examples_per_sec")
    return steps / rate if _is_number(steps) and _is_number(rate) and min(steps, rate) > 0 else None
