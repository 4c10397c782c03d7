"""What a run says while it goes: metrics.jsonl, TensorBoard events and a live line in the terminal."""

import json
import sys

from etils import epath
import tqdm


class Meter:
    """Sums of several steps of one length; divided once, when read."""

    def __init__(self):
        """Nothing summed yet."""
        self.sums, self.steps, self.seconds = {}, 0, 0.0

    def add(self, sums, seconds=0.0):
        """Adds one step's (sum, count) pairs."""
        for name, (total, count) in sums.items():
            held = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = held[0] + float(total), held[1] + float(count)
        self.steps += 1
        self.seconds += seconds

    def means(self, objectives):
        """Each name's mean, and `loss`, the sum of the objectives' means."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        return {"loss": sum(means[name] for name in objectives), **means}


class Log:
    """One run's books. Only the process that `writes` touches files or the terminal."""

    def __init__(self, *, workdir, every_steps, tensorboard, first_step, num_steps, batch_size, objectives, writes):
        """Drops from metrics.jsonl what a killed run wrote after the step that this one resumes from."""
        self.workdir, self.every_steps, self.num_steps = workdir, every_steps, num_steps
        self.batch_size, self.objectives, self.writes = batch_size, objectives, writes
        self._meters = {}
        if not writes:
            return
        self._path = epath.Path(workdir) / "metrics.jsonl"
        _keep_until(self._path, first_step)
        self._events = _events(workdir) if tensorboard else None
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=num_steps, initial=first_step, unit="step", dynamic_ncols=True, smoothing=0.05)

    def step(self, step, seq_len, sums, *, seconds, input_s, learning_rate, mfu):
        """Takes one step's sums; every `every_steps` steps, writes a line for each length met since the last."""
        meter = self._meters.setdefault(seq_len, Meter())
        shares = {"input_wait": (input_s, seconds)} | ({"mfu": (mfu * seconds, seconds)} if mfu else {})
        meter.add(sums | shares, seconds)
        if self.writes and self._bar:
            self._bar.update(step - self._bar.n)
        if step % self.every_steps and step != self.num_steps:
            return
        for length, meter in sorted(self._meters.items()):
            rate = meter.steps * self.batch_size / meter.seconds
            speeds = {"examples_per_sec": rate, "tokens_per_sec": rate * length}
            means = meter.means(self.objectives) | {"learning_rate": float(learning_rate(step - 1))}
            self._write("train", step, length, means | speeds)
        self._meters = {}

    def evaluation(self, step, totals):
        """Writes one line for each length of a held-out evaluation."""
        for seq_len, sums in sorted(totals.items()):
            meter = Meter()
            meter.add(sums)
            self._write("eval", step, seq_len, meter.means(self.objectives))

    def say(self, sentence):
        """Prints a sentence above the live line."""
        if self.writes:
            tqdm.tqdm.write(sentence, file=sys.stderr)

    def _write(self, kind, step, seq_len, values):
        if not self.writes:
            return
        line = {"step": step, "kind": kind, "seq_len": seq_len, **{k: float(f"{v:.6g}") for k, v in values.items()}}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._events:
            self._events(f"{kind}_{seq_len}", step, values)
        self._show(line)

    def _show(self, line):
        text = f"loss {line['loss']:.4f}  mlm {line['mlm_accuracy']:.3f}  nsp {line['nsp_accuracy']:.3f}"
        if line["kind"] == "eval":
            self.say(f"step {line['step']:>7,}  held-out {line['seq_len']:>4}  {text}  mlm loss {line['mlm_loss']:.4f}")
        elif self._bar is not None:
            self._bar.set_postfix_str(f"{line['seq_len']}: {text}  {line['examples_per_sec']:,.0f} seq/s")
        else:
            self.say(
                f"step {line['step']:>7,}/{self.num_steps:,}  {line['seq_len']:>4}  {text}  "
                f"{line['examples_per_sec']:,.0f} seq/s"
            )

    def close(self):
        """Ends the live line."""
        if self.writes and self._bar:
            self._bar.close()


def _keep_until(path, step):
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        temporary.replace(path)


def _events(workdir):
    """Function (tag prefix, step, values) that writes TensorBoard scalars."""
    import tensorflow as tf  # only where events are written: it takes seconds to import

    writer = tf.summary.create_file_writer(str(workdir))

    def write(prefix, step, values):
        with writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}/{name}", value, step=step)
        writer.flush()

    return write
