"""A ramp of the batch size: a run begins with smaller batches, in stages of one size each."""

import bisect
from collections.abc import Iterator, Mapping
import itertools
from typing import Any, NamedTuple

import ml_collections

from bert_tpu.core import command, config


class Ramp(NamedTuple):
    """The first `steps` steps of a run, in equal parts, have batches of rows[0], rows[1], ... rows.

    Without `rows` all batches have batch_size rows.
    """

    rows: tuple[int, ...] = ()
    steps: int = 0


class Stage(NamedTuple):
    """The steps first .. last - 1 of a run, which have one batch size."""

    first: int
    last: int
    batch_size: int


class BatchSizes(NamedTuple):
    """The batch size of each step of a run."""

    ramp: Ramp
    batch_size: int  # of a full batch, after the ramp
    num_steps: int

    def stages(self, first_step: int = 0) -> Iterator[Stage]:
        """Yields the stages that are not over at `first_step`, each from there on. The last one has full batches."""
        parts = len(self.ramp.rows)
        ends = [self.ramp.steps * part // parts for part in range(1, parts + 1)]
        spans = itertools.pairwise([0, *ends, self.num_steps])
        for (first, last), rows in zip(spans, (*self.ramp.rows, self.batch_size), strict=True):
            if max(first, first_step) < last:
                yield Stage(max(first, first_step), last, rows)

    def batches_before(self, step: Any) -> Any:
        """Returns the examples of the steps 0 .. step - 1, counted in full batches; without a ramp `step` itself.

        step: a number, or an array of any library
        """
        batches = step
        for first, last, rows in self.stages():
            if rows < self.batch_size:
                # The steps of the stage that come before `step`, in a form that any library computes.
                inside = (abs(step - first) - abs(step - last) + (last - first)) / 2
                batches = batches - inside * (1 - rows / self.batch_size)
        return batches

    def progress(self, step: Any) -> Any:
        """Returns the share of the run's examples that come before `step`, from 0 to 1; `step` as in batches_before."""
        return self.batches_before(step) / self.batches_before(self.num_steps)

    def step_at(self, share: float) -> int:
        """Returns the first step that has at least this share of the run's examples before it."""
        return bisect.bisect_left(range(self.num_steps), share, key=self.progress)

    def start_of_last(self, share: float) -> int:
        """Returns the first of the run's last steps that have this share of its examples; num_steps if none has."""
        return self.step_at(1 - share) if self.ramp.rows else self.num_steps - round(share * self.num_steps)


def read(cfg: Mapping[str, Any] | ml_collections.ConfigDict) -> Ramp:
    """Returns the ramp of a config, or of a run's config.json, both of which may lack the section `ramp`."""
    if "ramp" not in cfg:
        return Ramp()
    ramp: Ramp = config.call(make, cfg["ramp"], "ramp", num_steps=cfg.get("num_steps", 0))
    return ramp


def make(rows: Any, steps: int, share: float = 0.0, *, num_steps: int) -> Ramp:
    """Returns the ramp of a config's section. Raises UserError if it sets `steps` and `share`, or a wrong share.

    rows: a whole number, or several
    steps: those of the ramp
    share: the same as a share of num_steps, from 0 to below 1; the product is rounded
    num_steps: steps of the run
    """
    if not 0 <= share < 1:
        raise command.UserError(f"config.ramp.share is {share}: give a share of the steps, from 0 to below 1")
    if steps and share:
        raise command.UserError(f"config.ramp.steps is {steps} and config.ramp.share {share}: set one of them to 0")
    if num_steps and share and not round(share * num_steps):
        raise command.UserError(
            f"config.ramp.share {share} of {num_steps:,} steps rounds to 0: give a larger share, or 0 for no ramp"
        )
    return Ramp(tuple(rows) if isinstance(rows, (tuple, list)) else (rows,), steps or round(share * num_steps))


def describe(cfg: Mapping[str, Any] | ml_collections.ConfigDict) -> str:
    """Returns the batch sizes of a config in words, such as 1,024 or 256, 512 (the first 60,000 steps) and 1,024."""
    (rows, steps), full = read(cfg), f"{cfg['batch_size']:,}"
    return f"{', '.join(f'{n:,}' for n in rows)} (the first {steps:,} steps) and {full}" if rows else full


def without(cfg: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns a copy of a config whose batches all have batch_size rows."""
    copy = cfg.copy_and_resolve_references().unlock()
    if "ramp" in copy:
        copy.ramp.update(rows=(), steps=0, share=0.0)
    return copy


def resized(cfg: ml_collections.ConfigDict, batch_size: int) -> ml_collections.ConfigDict:
    """Returns a copy of a config whose batches all have `batch_size` rows, and as many packed rows in proportion."""
    copy = without(cfg)
    copy.data.packed_rows = cfg.data.packed_rows * batch_size // cfg.batch_size
    copy.batch_size = batch_size
    return copy


def rules(ramp: Ramp, batch_size: int, num_steps: int) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is kept, what is wrong if not) for each rule of a ramp."""
    rows, steps = ramp
    yield (
        bool(rows) == bool(steps),
        f"ramp.rows is {rows} and the ramp has {steps} steps: set ramp.rows and one of ramp.steps and ramp.share, or "
        "none of the three",
    )
    yield (
        all(type(n) is int and 0 < n < batch_size for n in rows) and list(rows) == sorted(set(rows)),
        f"ramp.rows {rows}: set rising whole numbers from 1 to below batch_size {batch_size}",
    )
    yield (
        not rows or (type(steps) is int and len(rows) <= steps < num_steps),
        f"the ramp has {steps} steps: set ramp.steps or ramp.share so that it has a whole number from {len(rows)}, one "
        f"for each of ramp.rows, to below num_steps {num_steps:,}",
    )
