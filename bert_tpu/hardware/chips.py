"""What is documented of each TPU generation, and the shapes in which its chips are joined.

Peak FLOP/s and HBM: https://cloud.google.com/tpu/docs/v3 and its neighbours v4, v5e, v5p and v6e. Links: those of v5e,
v5p and v6e, and for v3 and v4 Jouppi et al. 2023, "TPU v4: an optically reconfigurable supercomputer", table 4. Here a
link is one direction of one port, where the pages give all ports of a chip: 1600 Gbit/s / 4 ports / 8 = 50 GB/s, or, as
today's give both directions, 400 GB/s / 4 ports / 2 = 50 GB/s. That is nominal:
https://jax-ml.github.io/scaling-book/tpus reckons with 45 GB/s for v4 and v5e and 90 for v5p and v6e.

Clocks of v3 and v4: table 4. The others follow from peak FLOP/s and the matrix units; v6e's two units of 256 x 256 have
to count as four.

Power, watts a chip, no host. v3 and v4, with HBM: mean and maximum as measured by Google (their pages; table 4). v5e,
v5p and v6e: the lower is the mean that Google measured over its fleet, at all loads (Schneider et al. 2025,
arXiv:2502.01671, table 1, known here at second hand, from two independent repositories). No maximum is published for
them, so the upper is an ESTIMATE. v5e: v4's highest watts for each peak FLOP/s. v5p: its mean times v4's 192 / 170.
v6e: v5e's upper for each peak FLOP/s over the 1.67 that Google states ("over 67% more energy-efficient than TPU v5e",
blog "Announcing Trillium", 2024-05-14).
"""

import math
import re
from typing import NamedTuple

from bert_tpu.core import command

GIB = 2**30
HOP_S = 1e-6  # a message's way to the neighbour: https://jax-ml.github.io/scaling-book/sharding, about 1 us


class Chip(NamedTuple):
    """One generation; all figures are a chip's."""

    kind: str  # what JAX calls its devices
    devices: int  # JAX devices on a chip: both cores of v4 and v5p are one, as a megacore
    flops: float  # peak dense bfloat16 FLOP/s
    hbm_gib: float  # as built; of v5p's 96 Google's page lists 95, what system and libtpu leave
    usable_gib: float  # of it, what XLA:TPU (libtpu 0.0.52) gives to a program on all devices of the chip
    hbm_bytes_per_s: float
    clock_hz: float
    link_bytes_per_s: float  # one link, one direction
    ring: int  # along an axis of this many chips, or a multiple, the last is joined to the first
    watts: tuple[float, float]  # usual, highest
    watts_measured: bool  # both; elsewhere the usual is, and the highest is an ESTIMATE


CHIPS = {
    "v3": Chip("TPU v3", 2, 123e12, 32, 30.96, 900e9, 0.94e9, 70e9, 32, (220, 262), True),
    "v4": Chip("TPU v4", 1, 275e12, 32, 30.75, 1200e9, 1.05e9, 50e9, 4, (170, 192), True),
    "v5e": Chip("TPU v5 lite", 1, 197e12, 16, 15.75, 819e9, 1.50e9, 50e9, 16, (66, 138), False),
    "v5p": Chip("TPU v5", 1, 459e12, 96, 95.73, 2765e9, 1.75e9, 100e9, 4, (331, 374), False),
    "v6e": Chip("TPU v6 lite", 1, 918e12, 32, 31.24, 1640e9, 1.75e9, 100e9, 16, (153, 385), False),
}
NAMES = (
    "v3:2x2", "v3:4x4", "v4:2x2x1", "v4:2x2x4", "v5e:2x2", "v5e:2x4", "v5e:4x4", "v5p:2x2x1", "v5p:2x2x4", "v6e:2x2",
    "v6e:2x4", "v6e:4x4",
)  # fmt: skip


class Slice(NamedTuple):
    """Chips of one generation, joined in a mesh."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def generation(self) -> str:
        """The key in CHIPS."""
        return self.name.partition(":")[0]

    @property
    def chips(self) -> int:
        """How many chips there are."""
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        """How many JAX devices there are."""
        return self.chips * self.chip.devices


def find(name) -> Slice:
    """The slice called GENERATION:AxB or GENERATION:AxBxC. Raises UserError for another name."""
    generation, _, shape = name.partition(":")
    chip = CHIPS.get(generation)
    axes = 3 if generation in ("v4", "v5p") else 2
    if chip is None or not re.fullmatch("x".join(["[1-9][0-9]*"] * axes), shape):
        raise command.UserError(f"no TPU topology {name!r}: give one such as {', '.join(NAMES)}")
    return Slice(name, chip, tuple(map(int, shape.split("x"))))


def exchange_s(where, kind, nbytes, group) -> float:
    """ESTIMATE of the seconds that one collective takes on the links of a Slice: the least that they allow.

    kind, nbytes, group: as in cost.Collective. The chip with the fewest neighbours sets the pace: in a mesh it has one
    link along each axis, in a torus two. To reduce-scatter or to gather n bytes over p chips, (p - 1) / p x n bytes
    come in, to all-reduce twice that (Chan et al. 2007, "Collective communication: theory, practice, and experience",
    section 4; https://jax-ml.github.io/scaling-book/sharding has the same for a torus). Of an all-to-all half of all
    bytes cross the middle of the longest axis. A permutation is taken to go to neighbours. Each step to a neighbour
    takes at least HOP_S. Cores of one chip exchange over no link.
    """
    chip, chips = where.chip, group // where.chip.devices
    if chips < 2:
        return 0.0
    whole = chips == where.chips
    links = sum(1 + _is_ring(where, axis) for axis in where.shape if axis > 1) if whole else 1
    hops = sum(axis // 2 if _is_ring(where, axis) else axis - 1 for axis in where.shape) if whole else chips - 1
    share = (chips - 1) / chips
    if kind == "all-to-all":
        longest = max(where.shape)
        middle = chips // longest * (1 + _is_ring(where, longest)) if whole else 1
        return chips / 4 * nbytes * chip.devices / (middle * chip.link_bytes_per_s) + hops * HOP_S
    if kind == "collective-permute":
        return nbytes * chip.devices / chip.link_bytes_per_s + HOP_S
    times = 2 if kind == "all-reduce" else 1
    return times * (share * nbytes / (links * chip.link_bytes_per_s) + hops * HOP_S)


def _is_ring(where, axis):
    # v4 and v5p close their rings through optical switches, which join whole cubes only.
    axes = where.shape if len(where.shape) == 3 else (axis,)
    return all(one % where.chip.ring == 0 for one in axes)
