"""Logs a run: lines in metrics.jsonl, samples.jsonl and trackers, and text on stderr."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import json
import os
import time
from typing import Any

from etils import epath

from bert_tpu.core import jsonl, numerals, progress, storage
from bert_tpu.monitoring import health, metrics, trackers

BUCKET_S = 30

Sums = Mapping[str, tuple[Any, Any]]  # name -> (sum, count), numbers or arrays of one number
Totals = dict[str, tuple[float, float]]  # the same, added up over steps


def add_sums(total: Totals, sums: Sums) -> Totals:
    """Adds up two tables of name -> (sum, count) in float64, for the names in `sums`."""
    before = {name: total.get(name, (0.0, 0.0)) for name in sums}
    return {name: (before[name][0] + float(s), before[name][1] + float(c)) for name, (s, c) in sums.items()}


def means(sums: Sums, objectives: Iterable[str]) -> dict[str, float]:
    """The mean of each name that has a count, and `loss`, the sum of the means of those objectives that have one.

    `skipped` is a number of steps.
    """
    by_name = {name: total / count for name, (total, count) in sums.items() if count and name != "skipped"}
    if "skipped" in sums:
        by_name["skipped"] = sums["skipped"][0]
    parts = [by_name[name] for name in objectives if name in by_name]
    return ({"loss": sum(parts)} if parts else {}) | by_name


class Log:
    """The log of one run. Only the process that `writes` touches files or the terminal."""

    def __init__(
        self, *, workdir: str | os.PathLike, every_steps: int, to: Sequence[str], first_step: int, num_steps: int,
        batch_size: int, rows: Callable[[int], int], batch_share: Callable[[int], float], objectives: tuple[str, ...],
        learning_rate: Callable[[int], Any], work: Callable[[int], float], peak_s: Mapping[int, float],
        unlogged: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any], writes: bool, update_s: float = 0.0,
    ):  # fmt: skip
        """Drops the lines after `first_step`, the step that this start resumes from: a killed run wrote them.

        to: names of trackers, see trackers.NAMES
        batch_size: examples of a full batch
        rows: sequence length -> rows that hold these examples
        batch_share: step, counted from 0 -> its rows as a share of a full batch
        learning_rate: step -> rate
        work: step -> FLOPs of the steps before it
        peak_s: sequence length -> seconds of a full step at the devices' peak; empty if the peak is unknown
        unlogged: the result of `unlogged` at `first_step`; empty at step 0
        config: dotted keys of the run's config, with values, for the trackers
        update_s: the part of `peak_s` that does not depend on the rows
        """
        self.workdir, self.every_steps, self.num_steps, self._last_step = workdir, every_steps, num_steps, first_step
        self.batch_size, self.rows, self.objectives, self.writes = batch_size, rows, objectives, writes
        self.learning_rate, self.work, self.batch_share = learning_rate, work, batch_share
        self.peak_s, self.update_s = peak_s, update_s
        # Sequence length -> examples of a full batch, where they are not batch_size: in packed rows.
        self.examples: dict[int, float] = {}
        self._sums: dict[int, Totals] = {int(seq_len): dict(sums) for seq_len, sums in unlogged.items()}
        for sums in self._sums.values():
            sums.pop("recomputed", None)  # earlier releases counted steps that were computed twice
        self._path = epath.Path(workdir) / "metrics.jsonl"
        self._samples = epath.Path(workdir) / "samples.jsonl"
        self._terminal, self._latest = progress.Terminal(), ""
        self._begun: tuple[float, float] | None = None  # time and work of the first step of this start
        # Each line rewrites a bucket's whole object, which may be written once a second.
        self._flush_s = BUCKET_S if storage.is_bucket(workdir) else 0
        self._lines: list[str] = []
        self._has_warned = False  # of a file that cannot be written
        self._flushed_s = 0.0
        if writes:
            jsonl.drop_after(self._path, first_step)
            jsonl.drop_after(self._samples, first_step)
        self._trackers = (
            trackers.Trackers(to, workdir=workdir, config=config, lines=jsonl.read(self._path), first_step=first_step)
            if writes and to
            else None
        )

    def step(self, step: int, seq_len: int, sums: Sums, seconds: float, input_s: float) -> None:
        """Adds one step's sums. Every `every_steps` steps, writes a line for each length since the last lines.

        seconds: time of the step, of which the devices waited `input_s` seconds for input
        """
        share = self.batch_share(step - 1)
        times = {"seconds": (seconds, 1), "input_wait": (input_s, seconds), "batch_share": (share, 1)}
        if self.peak_s:
            of_rows_s = self.peak_s[seq_len] - self.update_s
            times["mfu"] = (of_rows_s * share + self.update_s, seconds)
        self._sums[seq_len] = add_sums(self._sums.get(seq_len, {}), {**sums, **times})
        self._begun = self._begun or (time.monotonic(), self.work(step))
        if step % self.every_steps == 0 or step == self.num_steps:
            self.write_lines(step)
        if self.writes:
            self._terminal.live(f"{self._place(step)}{self._time_left(step)}  {self._latest}")

    def write_lines(self, step: int) -> None:
        """Writes a line for each length since the last lines, up to the finished `step`."""
        texts = [self._train_line(step, length, total) for length, total in sorted(self._sums.items())]
        if texts:
            self._sums, self._latest = {}, texts[0]  # of the short rows, which most steps have

    def _train_line(self, step: int, seq_len: int, total: Totals) -> str:
        values = means(total, self.objectives)
        seconds, values["steps"] = values.pop("seconds"), total["seconds"][1]
        share = values.pop("batch_share", 1.0)  # earlier releases did not count it, and had full batches only
        values["examples"] = self.examples.get(seq_len, self.batch_size) * share
        rate, tokens = values["examples"] / seconds, self.rows(seq_len) * share * seq_len / seconds
        values["learning_rate"] = float(self.learning_rate(step - 1))
        self._write("train", step, values | {"examples_per_sec": rate, "tokens_per_sec": tokens}, seq_len=seq_len)
        text = f"{_short(seq_len, values)}  {rate:,.0f} seq/s"
        if not self._terminal.is_live:
            self.say(f"{self._place(step)}{self._time_left(step)}  {text}")
        return text

    def unlogged(self) -> dict[str, Totals]:
        """The sums since the last line, for a checkpoint's metadata: the next line after a restart is then the same.

        Flushes all earlier lines to disk.
        """
        self.flush()
        return {str(seq_len): sums for seq_len, sums in self._sums.items()}

    def flush(self) -> None:
        """Writes the lines that wait in memory to metrics.jsonl."""
        if self._lines:
            jsonl.append(self._path, self._lines)
        self._lines, self._flushed_s = [], time.monotonic()

    def _try_to_flush(self) -> None:
        """Writes the lines, or keeps them and warns once: training goes on, and a checkpoint waits for them."""
        try:
            self.flush()
        except OSError as fault:
            self._flushed_s = time.monotonic()
            if not self._has_warned:
                self._has_warned = True
                self.say(f"warning: {self._path} cannot be written ({fault.strerror}); its lines are kept for later")

    def evaluation(self, step: int, totals: Mapping[int, Sums]) -> None:
        """Writes one line for each length of an evaluation. totals: sequence length -> sums."""
        for seq_len, sums in sorted(totals.items()):
            values = means(add_sums({}, sums), self.objectives)
            self._write("eval", step, values, seq_len=seq_len)
            losses = "".join(f"  {name.replace('_', ' ')} {values[name]:.3f}" for name in self.objectives)
            self.say(f"{self._place(step)}  held-out {_short(seq_len, values)}{losses}")

    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl up to now; none on a process that does not write."""
        self.flush()
        return jsonl.read(self._path) if self.writes else []

    def samples(self, step: int, samples: list[dict[str, Any]]) -> None:
        """Writes the model's predictions for a few rows as a line of samples.jsonl."""
        if self.writes:
            jsonl.append(self._samples, [json.dumps({"step": step, "samples": samples}) + "\n"])

    def write_facts(self, facts: health.Facts) -> None:
        """Writes the figures that the health checks compare the lines with."""
        if self.writes:
            health.write(self.workdir, facts)

    def remark(self, step: int, sentence: str) -> None:
        """Prints a sentence about the run at `step`."""
        self.say(f"{self._place(step)}  {sentence}")

    def scores(
        self, step: int, split: str, by_seed: Mapping[int, Mapping[str, float]], commonest: Mapping[str, float]
    ) -> None:
        """Writes one line for each seed's scores of a split, and prints their means.

        by_seed: seed -> metric -> score
        commonest: scores of an answer that is always the commonest class, printed next to the means; empty if the
            task has no classes
        """
        for seed, values in by_seed.items():
            self._write("eval", step, values, split=split, seed=seed)
        names = next(iter(by_seed.values()))
        averages = {name: sum(scores[name] for scores in by_seed.values()) / len(by_seed) for name in names}
        notes = [f"mean of {len(by_seed)} seeds"] if len(by_seed) > 1 else []
        notes += [f"always the commonest class: {_named(commonest)}"] if commonest else []
        note = f"  ({'; '.join(notes)})" if notes else ""
        self.say(f"{self._place(step)}  {split}: {_named(averages)}{note}")

    def say(self, sentence: str) -> None:
        """Prints a sentence above the live line."""
        if self.writes:
            self._terminal.say(sentence)

    def _write(self, kind: str, step: int, values: Mapping[str, float], **labels: Any) -> None:
        """Writes a line of `values`, to the trackers too."""
        if not self.writes:
            return
        line = {"step": step, "kind": kind, **labels, **{k: float(f"{v:.6g}") for k, v in values.items()}}
        self._lines.append(json.dumps(line) + "\n")
        self._last_step = step
        if time.monotonic() - self._flushed_s >= self._flush_s:
            self._try_to_flush()
        if self._trackers:
            self._trackers.write(line)
            self._print_notes()

    def _print_notes(self) -> None:
        for note in self._trackers.notes() if self._trackers else ():
            self.say(note)

    def _place(self, step: int) -> str:
        total = f"{self.num_steps:,}"
        return f"step {step:>{len(total)},}/{total}"

    def _time_left(self, step: int) -> str:
        """The time for the remaining steps, at this start's FLOPs a second so far; "" if it rounds to 0."""
        begun_s, begun_work = self._begun or (time.monotonic(), self.work(step))
        done, rest = self.work(step) - begun_work, self.work(self.num_steps) - self.work(step)
        left_s = round((time.monotonic() - begun_s) * rest / done) if done else 0
        return f"  {numerals.duration(left_s)} left" if left_s else ""

    def close(self) -> None:
        """Writes the lines that wait in memory, and ends the trackers' records and the live line."""
        self.flush()
        if self._trackers:
            self._trackers.close(self._last_step >= self.num_steps)
            self._print_notes()
        if self.writes:
            self._terminal.close()


def _named(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _short(seq_len: int, values: Mapping[str, float]) -> str:
    if "loss" not in values:
        return f"{seq_len}: no step had a finite loss and gradient"
    hits = {name.removesuffix("_accuracy"): share for name, share in values.items() if name.endswith("_accuracy")}
    distances = {"distill": metrics.DISTILL_LOSS, "relations": metrics.RELATION_LOSS}
    distance = "".join(f"  {name} {values[key]:.3f}" for name, key in distances.items() if key in values)
    shares = "".join(f"  {name} {share:.1%}" for name, share in hits.items())
    return f"{seq_len}: loss {values['loss']:.3f}{distance}{shares}"
