"""What a run says while it goes: lines in files, TensorBoard events, a live line, and a profiler's trace if asked."""

import functools
import json
import time

from etils import epath
import jax

from bert_tpu.core import command, jsonl, progress, storage
from bert_tpu.monitoring import health

BUCKET_S = 30
NUMBERS = ("skipped", "recomputed")  # of steps, among a step's sums


def add_sums(total, sums):
    """Both tables of name -> (sum, count), added up in float64."""
    held = {name: total.get(name, (0.0, 0.0)) for name in sums}
    return {name: (held[name][0] + float(s), held[name][1] + float(c)) for name, (s, c) in sums.items()}


def means(sums, objectives):
    """Each name's mean, where it has a count, and `loss`, the sum of the objectives' means.

    `skipped` and `recomputed` are numbers of steps, the latter where it is not 0.
    """
    each = {name: total / count for name, (total, count) in sums.items() if count and name not in NUMBERS}
    if "skipped" in sums:
        each["skipped"] = sums["skipped"][0]
    if sums.get("recomputed", (0, 0))[0]:
        each["recomputed"] = sums["recomputed"][0]
    loss = {"loss": sum(each[name] for name in objectives)} if all(name in each for name in objectives) else {}
    return loss | each


class Log:
    """One run's books. Only the process that `writes` touches files or the terminal."""

    def __init__(
        self, *, workdir, every_steps, tensorboard, first_step, num_steps, batch_size, rows, objectives, learning_rate,
        work, peak_s, unlogged, writes,
    ):  # fmt: skip
        """Drops from the files what a killed run wrote after `first_step`, the step that this one resumes from.

        batch_size: examples of a step. rows: function sequence length -> rows they are in. learning_rate: function
        step -> rate. work: function step -> FLOPs of the steps before it. peak_s: sequence length -> seconds of a step
        at the devices' peak, empty where that is unknown. unlogged: what `unlogged` returned at `first_step`; empty at
        step 0.
        """
        self.workdir, self.every_steps, self.tensorboard, self.num_steps = workdir, every_steps, tensorboard, num_steps
        self.batch_size, self.rows, self.objectives, self.writes = batch_size, rows, objectives, writes
        self.learning_rate, self.work, self.peak_s = learning_rate, work, peak_s
        self._sums = {int(seq_len): sums for seq_len, sums in unlogged.items()}
        self._path = epath.Path(workdir) / "metrics.jsonl"
        self._samples = epath.Path(workdir) / "samples.jsonl"
        self._terminal, self._begun, self._latest = progress.Terminal(), None, ""
        # A bucket's file is written anew for each line, and no more than once a second.
        self._flush_s = BUCKET_S if storage.is_bucket(workdir) else 0
        self._lines, self._flushed_s = [], 0.0
        if writes:
            jsonl.drop_after(self._path, first_step)
            jsonl.drop_after(self._samples, first_step)

    def step(self, step, seq_len, sums, seconds, input_s):
        """Takes one step's sums; every `every_steps` steps, writes a line for each length met since the last."""
        beside = {"seconds": (seconds, 1), "input_wait": (input_s, seconds)}
        if self.peak_s:
            beside["mfu"] = (self.peak_s[seq_len], seconds)
        self._sums[seq_len] = add_sums(self._sums.get(seq_len, {}), sums | beside)
        self._begun = self._begun or (time.monotonic(), self.work(step))
        if step % self.every_steps == 0 or step == self.num_steps:
            self.write_lines(step)
        if self.writes:
            self._terminal.live(f"{self._place(step)}{self._left(step)}  {self._latest}")

    def write_lines(self, step):
        """Writes a line for each length met since the last ones, up to the finished `step`."""
        shown = [self._train_line(step, length, total) for length, total in sorted(self._sums.items())]
        if shown:
            self._sums, self._latest = {}, shown[0]  # of the short rows, which most steps have

    def _train_line(self, step, seq_len, total):
        values = means(total, self.objectives)
        seconds, values["steps"] = values.pop("seconds"), total["seconds"][1]
        rate, tokens = self.batch_size / seconds, self.rows(seq_len) * seq_len / seconds
        values["learning_rate"] = float(self.learning_rate(step - 1))
        self._write("train", step, values | {"examples_per_sec": rate, "tokens_per_sec": tokens}, seq_len=seq_len)
        shown = f"{_short(seq_len, values)}  {rate:,.0f} seq/s"
        if not self._terminal.is_live:
            self.say(f"{self._place(step)}{self._left(step)}  {shown}")
        return shown

    def unlogged(self):
        """The sums since the last line, for a checkpoint's meta: a restart's next line is then the same line.

        All lines before are on disk when it returns.
        """
        self.flush()
        return {str(seq_len): sums for seq_len, sums in self._sums.items()}

    def flush(self):
        """metrics.jsonl has every line up to now."""
        if self._lines:
            jsonl.append(self._path, self._lines)
        self._lines, self._flushed_s = [], time.monotonic()

    def evaluation(self, step, totals):
        """Writes one line for each length of a held-out evaluation."""
        for seq_len, sums in sorted(totals.items()):
            values = means(add_sums({}, sums), self.objectives)
            self._write("eval", step, values, seq_len=seq_len)
            each = "".join(f"  {name.replace('_', ' ')} {values[name]:.3f}" for name in self.objectives)
            self.say(f"{self._place(step)}  held-out {_short(seq_len, values)}{each}")

    def lines(self):
        """The lines of metrics.jsonl up to now, on the process that writes; elsewhere none."""
        self.flush()
        return jsonl.read(self._path) if self.writes else []

    def samples(self, step, samples):
        """Writes what the model says of a few rows, JSON, as a line of samples.jsonl."""
        if self.writes:
            jsonl.append(self._samples, [json.dumps({"step": step, "samples": samples}) + "\n"])

    def write_facts(self, facts):
        """Writes what the lines are held against, health.Facts."""
        if self.writes:
            health.write(self.workdir, facts)

    def remark(self, step, sentence):
        """Says something of the run at `step`."""
        self.say(f"{self._place(step)}  {sentence}")

    def scores(self, step, split, by_seed, commonest):
        """Writes one line for each seed's scores of a split, and says their means.

        commonest: the scores of always the commonest class, to be said beside them; empty where there are no classes.
        """
        for seed, values in by_seed.items():
            self._write("eval", step, values, split=split, seed=seed)
        means = {
            name: sum(each[name] for each in by_seed.values()) / len(by_seed) for name in next(iter(by_seed.values()))
        }
        notes = [f"mean of {len(by_seed)} seeds"] if len(by_seed) > 1 else []
        notes += [f"always the commonest class: {_told(commonest)}"] if commonest else []
        beside = f"  ({'; '.join(notes)})" if notes else ""
        self.say(f"{self._place(step)}  {split}: {_told(means)}{beside}")

    def say(self, sentence):
        """Prints a sentence above the live line."""
        if self.writes:
            self._terminal.say(sentence)

    def _write(self, kind, step, values, **of):
        """A line of `values`, and events under the name that `kind` and what they are `of` make."""
        if not self.writes:
            return
        line = {"step": step, "kind": kind, **of, **{k: float(f"{v:.6g}") for k, v in values.items()}}
        self._lines.append(json.dumps(line) + "\n")
        if time.monotonic() - self._flushed_s >= self._flush_s:
            self.flush()
        if self.tensorboard:
            self._write_events("_".join(map(str, (kind, *of.values()))), step, values)

    def _write_events(self, tag, step, values):
        import tensorflow as tf  # only where events are written: it takes seconds to import

        try:
            with self._events.as_default():
                for name, value in values.items():
                    tf.summary.scalar(f"{tag}/{name}", value, step=step)
            self._events.flush()
        except tf.errors.OpError as fault:  # TensorFlow's own kind of OSError
            reason = " ".join(fault.message.split())[:300]
            raise command.UserError(f"cannot write TensorBoard events to {self.workdir}: {reason}") from fault

    @functools.cached_property
    def _events(self):
        import tensorflow as tf

        return tf.summary.create_file_writer(str(self.workdir))

    def _place(self, step):
        total = f"{self.num_steps:,}"
        return f"step {step:>{len(total)},}/{total}"

    def _left(self, step):
        """The time for the rest, if its FLOPs take as long as those did that this start has done."""
        begun_s, begun_work = self._begun
        done, rest = self.work(step) - begun_work, self.work(self.num_steps) - self.work(step)
        left_s = round((time.monotonic() - begun_s) * rest / done) if done else 0
        return f"  {left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left" if left_s else ""

    def close(self):
        """Ends the lines and the live line."""
        self.flush()
        if self.writes:
            self._terminal.close()


def _told(scores):
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _short(seq_len, values):
    if "loss" not in values:
        return f"{seq_len}: no step had a finite loss and gradient"
    hits = {name.removesuffix("_accuracy"): share for name, share in values.items() if name.endswith("_accuracy")}
    return f"{seq_len}: loss {values['loss']:.3f}" + "".join(f"  {name} {share:.1%}" for name, share in hits.items())


class Profile:
    """A profiler's trace, in `directory`, of the steps first_step .. first_step + num_steps - 1, counted from 1."""

    def __init__(self, *, first_step, num_steps, directory):
        """num_steps: 0 traces nothing."""
        self.steps, self.directory, self._open = range(first_step, first_step + num_steps), directory, False

    def before(self, step, state):
        """Begins or ends the trace, where it is due before `step` is dispatched on `state`; returns whether it was."""
        if (step in self.steps) == self._open:
            return False
        if self._open:
            jax.block_until_ready(state)  # the last step of the window is still running
            self.close()
        else:
            jax.profiler.start_trace(str(self.directory))
            self._open = True
        return True

    def close(self):
        """Writes the trace if one is open."""
        if self._open:
            jax.profiler.stop_trace()
            self._open = False
