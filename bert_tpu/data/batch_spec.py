"""The settings of a run's batches, checked before any data is read: lengths by step, shapes, rules for rows."""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

from bert_tpu.core import command


class BatchSpec(NamedTuple):
    """The `data` section of a config with the run's seed, batch size and steps; `check` validates the values.

    schedule: "phased" puts the long steps last (the original's two runs in a row), "mixed" makes the last step of
    each window of `long_every` a long one.
    short_prob: share of rows whose target length is drawn from 2 .. L - 3.
    mask_rate: share of a row's tokens that are predicted.
    final_mask_rate: the same at the run's end, to which it goes in a straight line over the steps (Ankner et al. 2023,
    arXiv:2305.15096); 0: mask_rate throughout.
    whole_word: mask whole words, not single pieces.
    packed_rows: rows of a step of the longest length when examples share rows (packing.py); 0: each example has its
    own row.
    packed_examples: most examples in a packed row.
    nsp_share: share of the steps, the last ones, whose rows are pairs with a label. The rows before are single segments
    of contiguous text, with label -1 (Liu et al. 2019, arXiv:1907.11692, found NSP of no use).
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

    def seq_len(self, step: int) -> int:
        """Returns the tokens of a row at `step`, counted from 0. It is arithmetic alone, so any step takes no time."""
        if len(self.seq_lens) == 1:
            return self.seq_lens[0]
        return self.seq_lens[self._long_before(step + 1) > self._long_before(step)]

    def before(self, step: int, seq_len: int) -> int:
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

    def progress(self, step: Any) -> Any:
        """Returns the share of the run before `step`, from 0 to 1; `step` may be a float tensor."""
        return step / self.num_steps

    @property
    def first_nsp_step(self) -> int:
        """The first step whose rows are pairs with a label; num_steps if there is none."""
        return self.num_steps - round(self.nsp_share * self.num_steps)

    def used_lens(self) -> tuple[int, ...]:
        """Returns the lengths that have at least one step, short first."""
        return tuple(n for n in self.seq_lens if self.before(self.num_steps, n))

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
        """Returns the rows of a global batch."""
        return self.packed_rows if self.is_packed(seq_len) else self.batch_size

    def row_counts(self) -> dict[str, int]:
        """Returns the arguments of host_share.load that say how many rows a batch has."""
        return {"batch_size": self.batch_size, "packed_rows": self.packed_rows}

    def predictions(self, seq_len: int) -> int:
        """Returns the prediction slots of a row. A packed row has more, since each of its examples rounds up."""
        return self.max_predictions[self.seq_lens.index(seq_len)] + self.is_packed(seq_len) * self.packed_examples

    def check_division(self, devices: int, parts: Mapping[int, int]) -> None:
        """Raises UserError unless each device gets the same number of rows in each part of a batch.

        parts: sequence length -> number of parts
        """
        unpacked = [parts[n] for n in self.seq_lens if n in parts and not self.is_packed(n)]
        check_rows("batch_size", self.batch_size, devices, math.lcm(*unpacked))
        if self.packed_rows and self.seq_lens[-1] in parts:
            check_rows("data.packed_rows", self.packed_rows, devices, parts[self.seq_lens[-1]])


def check_rows(name: str, rows: int, devices: int, parts: int) -> None:
    """Raises UserError if a batch's rows do not divide over devices and parts. name: what sets their number"""
    divisor = devices * parts
    if rows % divisor:
        raise command.UserError(
            f"{name} {rows} does not divide over {devices} devices x {parts} parts of accumulation; "
            f"try {max(rows // divisor, 1) * divisor}"
        )


def slots_warning(spec: BatchSpec) -> str:
    """Returns a warning if a full row has fewer prediction slots than the mask rate asks for, else "".

    One slot fewer is the original's (76 of 76.8), and no reason to warn.
    """
    rate = max(spec.mask_rate, spec.final_mask_rate)
    wanted = [max(1, round(rate * n)) for n in spec.seq_lens]
    if all(m + 1 >= n for m, n in zip(spec.max_predictions, wanted, strict=True)):
        return ""
    return (
        f"a mask rate of {rate:g} wants {wanted} predictions in rows of {list(spec.seq_lens)} tokens, and "
        f"data.max_predictions allows {list(spec.max_predictions)}: the rest is not masked; give "
        f"--config.data.max_predictions={','.join(map(str, wanted))}"
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
    ):
        if not is_valid:
            raise command.UserError(f"config: {complaint}")
    return spec


def check_positions(spec: BatchSpec, positions: int) -> None:
    """Raises UserError, with lengths that fit, if rows are longer than a model of `positions` positions takes."""
    if (longest := spec.seq_lens[-1]) > positions:
        lens = [*(n for n in spec.seq_lens if n < positions), positions]
        slots = [max(1, round(n * spec.mask_rate)) for n in lens]
        raise command.UserError(
            f"config.model: max_positions {positions} is less than the rows' {longest} tokens: give "
            f"--config.data.seq_lens={','.join(map(str, lens))} --config.data.max_predictions="
            f"{','.join(map(str, slots))}, or a model with more positions"
        )
