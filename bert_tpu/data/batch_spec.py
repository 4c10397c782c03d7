"""What every batch of a run is, before any data is read: lengths by step, shapes, and the rules for rows."""

from typing import NamedTuple

from bert_tpu.core import command


class BatchSpec(NamedTuple):
    """The `data` section of a config with the run's seed, batch size and steps; `check` looks at the values.

    schedule: "phased" puts the long steps last (the original's two runs in a row), "mixed" makes the last step of
    each window of `long_every` a long one. mask_rate: share of a row's tokens that are predicted. short_prob: share
    of rows whose target length is drawn from 2 .. L - 3. whole_word: choose words, not pieces.
    packed_rows: rows of a step of the longest length when examples share rows, up to packed_examples in each
    (packing.py); 0: each has a row of its own.
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

    def seq_len(self, step) -> int:
        """Tokens a row at `step`, counted from 0: arithmetic alone, so that any step is found at once."""
        if len(self.seq_lens) == 1:
            return self.seq_lens[0]
        return self.seq_lens[self._long_before(step + 1) > self._long_before(step)]

    def before(self, step, seq_len) -> int:
        """How many of the steps 0 .. step - 1 have `seq_len`."""
        if len(self.seq_lens) == 1:
            return step
        long = self._long_before(step)
        return long if seq_len == self.seq_lens[1] else step - long

    def _long_before(self, step):
        if self.schedule == "mixed":
            return step // self.long_every
        return max(0, step - (self.num_steps - self.num_steps // self.long_every))

    def used_lens(self) -> tuple[int, ...]:
        """The lengths that have at least one step, short first."""
        return tuple(n for n in self.seq_lens if self.before(self.num_steps, n))

    def shapes(self, seq_len) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a global batch; all int32. B batch  L tokens  M prediction slots."""
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

    def is_packed(self, seq_len) -> bool:
        """Whether examples share rows of this length."""
        return self.packed_rows > 0 and seq_len == self.seq_lens[-1]

    def rows(self, seq_len) -> int:
        """Rows of a global batch."""
        return self.packed_rows if self.is_packed(seq_len) else self.batch_size

    def row_counts(self) -> dict[str, int]:
        """What data.load deals shards by."""
        return {"batch_size": self.batch_size, "packed_rows": self.packed_rows}

    def predictions(self, seq_len) -> int:
        """Prediction slots a row; of a packed one more, since each of its examples rounds up."""
        return self.max_predictions[self.seq_lens.index(seq_len)] + self.is_packed(seq_len) * self.packed_examples

    def check_division(self, devices, parts):
        """Raises UserError unless each device gets the same number of rows in each of `parts` parts."""
        check_rows({"batch_size": self.batch_size, "data.packed_rows": self.packed_rows}, devices, parts)


def check_rows(counts, devices, parts):
    """Raises UserError for the first of `counts`, key -> rows, that does not divide over devices and parts."""
    each = devices * parts
    for name, rows in counts.items():
        if rows % each:
            raise command.UserError(
                f"{name} {rows} does not divide over {devices} devices x {parts} parts of accumulation; "
                f"try {max(rows // each, 1) * each}"
            )


def check(spec) -> BatchSpec:
    """The spec itself, once its values make sense; a UserError otherwise."""
    lens, slots = spec.seq_lens, spec.max_predictions
    for holds, complaint in (
        (spec.batch_size > 0, f"batch_size {spec.batch_size} is less than 1"),
        (0 <= spec.seed < 2**31 - 1, f"seed {spec.seed} is not between 0 and {2**31 - 2}"),
        (spec.num_steps > 0, f"num_steps {spec.num_steps} is less than 1"),
        (spec.schedule in ("phased", "mixed"), f"data.schedule {spec.schedule!r} is neither phased nor mixed"),
        (
            len(lens) in (1, 2) and min(lens) >= 5 and list(lens) == sorted(set(lens)),
            f"data.seq_lens {lens}: give one length, or a short and a long one, from 5 up",
        ),
        (
            len(slots) == len(lens) and all(1 <= m <= n for m, n in zip(slots, lens, strict=True)),
            f"data.max_predictions {slots}: give a number from 1 to the length for each of {lens}",
        ),
        (spec.long_every >= 2, f"data.long_every {spec.long_every}: give 2 or more; 10 makes one step in ten long"),
        (0 <= spec.short_prob <= 1, f"data.short_prob {spec.short_prob} is not between 0 and 1"),
        (0 < spec.mask_rate <= 1, f"data.mask_rate {spec.mask_rate} is not above 0 and at most 1"),
        (spec.packed_rows >= 0, f"data.packed_rows {spec.packed_rows} is less than 0"),
        (spec.packed_examples >= 1, f"data.packed_examples {spec.packed_examples} is less than 1"),
        (
            not (spec.packed_rows and spec.whole_word),
            "data.whole_word does not go with data.packed_rows: set one of them to nothing",
        ),
    ):
        if not holds:
            raise command.UserError(f"config: {complaint}")
    return spec
