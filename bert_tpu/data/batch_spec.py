"""The settings of a run's batches, checked before any data is read: lengths by step, shapes, rules for rows."""

from collections.abc import Iterator, Mapping
import math
from typing import Any, NamedTuple

from bert_tpu.core import batch_ramp, command


class BatchSpec(NamedTuple):
    """The `data` section of a config with the run's seed, batch size and steps; `check` validates the values.

    schedule: "phased" puts the long steps last (the original's two runs in a row), "mixed" makes the last step of
    each window of `long_every` a long one.
    short_prob: share of rows whose target length is drawn from 2 .. L - 3.
    mask_rate: share of a row's tokens that are predicted.
    final_mask_rate: the same at the run's end, to which it goes in a straight line over the examples (Ankner et al.
    2023, arXiv:2305.15096); 0: mask_rate throughout.
    whole_word: mask whole words, not single pieces.
    packed_rows: rows of a step of the longest length when examples share rows (packing.py); 0: each example has its
    own row.
    packed_examples: most examples in a packed row.
    nsp_share: share of the steps (of the examples, if there is a ramp), the last ones, whose rows are pairs with a
    label. The rows before are single segments of contiguous text, with label -1 (Liu et al. 2019, arXiv:1907.11692,
    found NSP of no use).
    ramp: smaller batches at the start. Packed rows become fewer by the same factor.
    stage: the one of `stages` whose batches are made; None: full batches, in an order of their own, as if without ramp.
    """

    dir: str
    seq_lens: tuple[int, ...]
    max_predictions: tuple[int, ...]
    schedule: str
    long_every: int
    short_prob: float
    mask_rate: float
    whole_word: bool
    packed_rows: int
    packed_examples: int
    seed: int
    batch_size: int
    num_steps: int
    final_mask_rate: float = 0.0
    nsp_share: float = 1.0
    ramp: batch_ramp.Ramp = batch_ramp.Ramp()
    stage: batch_ramp.Stage | None = None

    def seq_len(self, step: int) -> int:
        """Returns the tokens of a row at `step`, counted from 0. It is arithmetic alone, so any step takes no time."""
        if len(self.seq_lens) == 1:
            return self.seq_lens[0]
        return self.seq_lens[self._long_before(step + 1) > self._long_before(step)]

    def steps_before(self, step: int, seq_len: int) -> int:
        """Counts the steps 0 .. step - 1 that have `seq_len`."""
        if len(self.seq_lens) == 1:
            return step
        long = self._long_before(step)
        return long if seq_len == self.seq_lens[1] else step - long

    def _long_before(self, step: int) -> int:
        if self.schedule == "mixed":
            return step // self.long_every
        return max(0, step - (self.num_steps - self.num_steps // self.long_every))

    def step_of(self, n: Any, seq_len: int) -> Any:
        """Returns the step of the n-th batch of `seq_len`, both from 0; `n` may be an integer tensor."""
        if len(self.seq_lens) == 1:
            return n
        is_long = seq_len == self.seq_lens[1]
        if self.schedule == "mixed":
            return n * self.long_every + self.long_every - 1 if is_long else n + n // (self.long_every - 1)
        return n + self.num_steps - self.num_steps // self.long_every if is_long else n

    @property
    def first_nsp_step(self) -> int:
        """The first step whose rows are pairs with a label; num_steps if there is none."""
        return self.batch_sizes.start_of_last(self.nsp_share)

    def stages(self, first_step: int = 0) -> "Iterator[BatchSpec]":
        """Yields the spec of each stage that is not over at `first_step`, from there on."""
        for stage in self.batch_sizes.stages(first_step):
            yield self._replace(stage=stage)

    @property
    def steps(self) -> range:
        """The steps of the stage."""
        return range(self.stage.first, self.stage.last) if self.stage else range(self.num_steps)

    def numbers(self, seq_len: int) -> range:
        """Returns the numbers of the stage's batches of `seq_len`, which count from the run's first one."""
        return range(self.steps_before(self.steps.start, seq_len), self.steps_before(self.steps.stop, seq_len))

    @property
    def batch_sizes(self) -> batch_ramp.BatchSizes:
        """The batch size of each step."""
        return batch_ramp.BatchSizes(self.ramp, self.batch_size, self.num_steps)

    def progress(self, step: Any) -> Any:
        """Returns the share of the run's examples that come before `step`, from 0 to 1; it may be a float tensor."""
        return self.batch_sizes.progress(step)

    def rows_before(self, step: int, seq_len: int) -> int:
        """Returns the rows of `seq_len` tokens in the steps 0 .. step - 1."""
        end = self.steps_before(step, seq_len)
        numbers = [(stage.rows(seq_len), stage.numbers(seq_len)) for stage in self.stages()]
        return sum(rows * (min(end, batches.stop) - min(end, batches.start)) for rows, batches in numbers)

    def without_ramp(self) -> "BatchSpec":
        """Returns the spec of full batches alone."""
        return self._replace(ramp=batch_ramp.Ramp(), stage=None)

    def sizes(self, first_step: int = 0) -> tuple[tuple[int, int], ...]:
        """Returns the sizes (sequence length, rows) of the batches from `first_step` on, those of short rows first."""
        stages = [*self.stages(first_step)]
        return tuple(dict.fromkeys((n, stage.rows(n)) for n in self.seq_lens for stage in stages if stage.numbers(n)))

    @property
    def examples_per_step(self) -> int:
        """Examples of a step of the stage, or of a full batch without one."""
        return self.stage.batch_size if self.stage else self.batch_size

    def batch_share(self, step: int) -> float:
        """Returns the examples of `step`, counted from 0, as a share of a full batch."""
        return next(self.stages(step)).examples_per_step / self.batch_size

    def used_lens(self) -> tuple[int, ...]:
        """Returns the lengths that have at least one step, short first."""
        return tuple(n for n in self.seq_lens if self.steps_before(self.num_steps, n))

    def shapes(self, seq_len: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of a global batch by name; all int32. B batch  L tokens  M prediction slots."""
        B, L, M = self.rows(seq_len), seq_len, self.predictions(seq_len)
        packed = {"example_starts": (B, self.packed_examples)} if self.is_packed(seq_len) else {}
        return packed | {
            "input_ids": (B, L),
            "token_type_ids": (B, L),
            "attention_mask": (B, L),
            "masked_positions": (B, M),
            "masked_ids": (B, M),
            "next_sentence_label": packed.get("example_starts", (B,)),
        }

    def is_packed(self, seq_len: int) -> bool:
        """True if examples share rows of this length."""
        return self.packed_rows > 0 and seq_len == self.seq_lens[-1]

    def rows(self, seq_len: int) -> int:
        """Returns the rows of a global batch of the stage."""
        rows = self.packed_rows if self.is_packed(seq_len) else self.batch_size
        return rows * self.examples_per_step // self.batch_size

    def first_row(self, seq_len: int, *, since: int = 0) -> int:
        """Returns the number of the row that begins batch 0 of `seq_len`, if all batches had the stage's size.

        Rows are counted from step `since` on, in the order of the run. So batch n of the stage begins with row
        first_row + n x rows, and follows the rows of the stages before. It may be negative.
        """
        first = self.stage.first if self.stage else since
        before = self.rows_before(first, seq_len) - self.rows_before(since, seq_len)
        return before - self.steps_before(first, seq_len) * self.rows(seq_len)

    def row_counts(self) -> dict[str, Any]:
        """Returns the arguments of host_share.load that say how many rows a batch has."""
        return {
            "batch_size": self.batch_size,
            "packed_rows": self.packed_rows,
            "ramp_rows": tuple(rows for _, rows in self.sizes() if self.ramp.rows),
        }

    def predictions(self, seq_len: int) -> int:
        """Returns the prediction slots of a row. A packed row has more, since each of its examples rounds up."""
        return self.max_predictions[self.seq_lens.index(seq_len)] + self.is_packed(seq_len) * self.packed_examples

    def check_division(self, devices: int, parts: Mapping[int, int], first_step: int = 0) -> None:
        """Raises UserError unless each device gets the same number of rows in each part of a batch.

        parts: sequence length -> number of parts
        first_step: stages of a ramp that are over at this step do not count
        """
        unpacked = [parts[n] for n in self.seq_lens if n in parts and not self.is_packed(n)]
        if unpacked:
            check_rows("batch_size", self.batch_size, devices, math.lcm(*unpacked))
        for stage in self.stages(first_step):
            lens = [n for n in parts if stage.examples_per_step < self.batch_size and stage.numbers(n)]
            unpacked = [parts[n] for n in lens if not self.is_packed(n)]
            if unpacked:
                check_rows("ramp.rows", stage.examples_per_step, devices, math.lcm(*unpacked))
        for stage in (self.without_ramp(), *self.stages(first_step)):
            for n in parts:
                if self.is_packed(n) and stage.numbers(n) and stage.rows(n) % (devices * parts[n]):
                    fewer = (
                        f", of which ramp.rows {stage.examples_per_step} makes {stage.rows(n)}," if stage.stage else ""
                    )
                    raise command.UserError(
                        f"data.packed_rows {self.packed_rows}{fewer} does not divide over {devices} devices x "
                        f"{parts[n]} parts of accumulation; {self._packed_advice(devices * parts[n])}"
                    )

    def packed_multiple(self, divisor: int) -> int:
        """Returns m: with a multiple of m as packed_rows, each step has packed rows that divide by `divisor`."""
        whole = self.batch_size * divisor
        of_stages = (
            whole // math.gcd(whole, stage.examples_per_step)
            for stage in self.stages()
            if stage.numbers(self.seq_lens[-1])
        )
        return math.lcm(divisor, *of_stages)

    def _packed_advice(self, divisor: int) -> str:
        """Returns which packed_rows divide by `divisor` in all stages of a ramp, or which ramp.rows do if any."""
        multiple, whole = self.packed_multiple(divisor), self.batch_size * divisor
        advice = f"try data.packed_rows={max(round(self.packed_rows / multiple), 1) * multiple}"
        step = whole // math.gcd(whole, self.packed_rows)
        helps = self.packed_rows % divisor == 0 and step < self.batch_size
        return f"{advice}, or multiples of {step} as ramp.rows" if helps else advice


def check_rows(name: str, rows: int, devices: int, parts: int) -> None:
    """Raises UserError if a batch's rows do not divide over devices and parts. name: what sets their number"""
    divisor = devices * parts
    if rows % divisor:
        raise command.UserError(
            f"{name} {rows} does not divide over {devices} devices x {parts} parts of accumulation; "
            f"try {max(rows // divisor, 1) * divisor}"
        )


def check(spec: BatchSpec) -> BatchSpec:
    """Returns `spec`. Raises UserError for its first value that is out of range."""
    lens, slots = spec.seq_lens, spec.max_predictions
    for is_valid, complaint in (
        (spec.batch_size > 0, f"batch_size {spec.batch_size} is less than 1"),
        (0 <= spec.seed < 2**31 - 1, f"seed {spec.seed} is not between 0 and {2**31 - 2}"),
        (spec.num_steps > 0, f"num_steps {spec.num_steps} is less than 1"),
        (spec.schedule in ("phased", "mixed"), f"data.schedule {spec.schedule!r} is neither phased nor mixed"),
        (
            len(lens) in (1, 2) and min(lens) >= 5 and list(lens) == sorted(set(lens)),
            f"data.seq_lens {lens}: set one length, or a short and a long one, each at least 5",
        ),
        (
            len(slots) == len(lens) and all(1 <= m <= n for m, n in zip(slots, lens, strict=True)),
            f"data.max_predictions {slots}: set a number from 1 to the length for each of {lens}",
        ),
        (spec.long_every >= 2, f"data.long_every {spec.long_every}: set 2 or more; 10 makes one step in ten long"),
        (0 <= spec.short_prob <= 1, f"data.short_prob {spec.short_prob} is not between 0 and 1"),
        (0 < spec.mask_rate <= 1, f"data.mask_rate {spec.mask_rate} is not above 0 and at most 1"),
        (0 <= spec.final_mask_rate <= 1, f"data.final_mask_rate {spec.final_mask_rate} is not between 0 and 1"),
        (0 <= spec.nsp_share <= 1, f"data.nsp_share {spec.nsp_share} is not between 0 and 1"),
        (spec.packed_rows >= 0, f"data.packed_rows {spec.packed_rows} is less than 0"),
        (spec.packed_examples >= 1, f"data.packed_examples {spec.packed_examples} is less than 1"),
        (
            not (spec.packed_rows and spec.whole_word),
            "data.whole_word does not go with data.packed_rows: set whole_word to False or packed_rows to 0",
        ),
        *batch_ramp.rules(spec.ramp, spec.batch_size, spec.num_steps),
    ):
        if not is_valid:
            raise command.UserError(f"config: {complaint}")
    for stage in spec.stages():
        if spec.packed_rows * stage.examples_per_step % spec.batch_size and stage.numbers(lens[-1]):
            raise command.UserError(
                f"config: data.packed_rows {spec.packed_rows} shrink with the batch, and at ramp.rows "
                f"{stage.examples_per_step} of batch_size {spec.batch_size} they are not a whole number; "
                f"{spec._packed_advice(1)}"
            )
    return spec
