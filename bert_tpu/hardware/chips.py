"""Documented figures of each TPU generation, and the shapes in which its chips are connected.

Peak FLOP/s and HBM: https://cloud.google.com/tpu/docs/v3 and the same pages for v4, v5e, v5p, v6e and tpu7x (v7x here,
Ironwood). Links: for v5e, v5p, v6e and v7x the same pages; for v3 and v4 Jouppi et al. 2023, "TPU v4: an optically
reconfigurable supercomputer", table 4. A link here is one direction of one port. The pages give all ports of a chip:
1600 Gbit/s / 4 ports / 8 = 50 GB/s. Today's pages give both directions: 400 GB/s / 4 ports / 2 = 50 GB/s. These are
nominal figures: https://jax-ml.github.io/scaling-book/tpus counts with 45 GB/s for v4 and v5e and 90 for v5p and v6e.

Clocks: for v3 and v4 table 4. The others follow from peak FLOP/s and the number of matrix units. v6e's two units of
256 x 256 must count as four. v7x's clock is INFERRED: no page states its units, and 2.2 GHz follows if each of its two
cores has v6e's. The compiler's cycles of a large product give 81 to 85% of the peak then; with half the units they
would give more than the peak.

Power: watts of a chip without its host. For v3 and v4, with HBM: mean and maximum as measured by Google (their pages;
table 4). For v5e, v5p and v6e the lower figure is the mean that Google measured over its fleet, at all loads (Schneider
et al. 2025, arXiv:2502.01671, table 1; taken from two independent repositories, not from the paper itself). No maximum
is published for them, so the upper figure is an ESTIMATE. v5e: v4's highest watts per peak FLOP/s. v5p: its mean times
v4's 192 / 170. v6e: v5e's upper figure per peak FLOP/s, divided by the 1.67 that Google states ("over 67% more
energy-efficient than TPU v5e", blog "Announcing Trillium", 2024-05-14). For v7x Google has published no watts, and its
claim of twice v6e's FLOP/s a watt does not say of which FLOP/s, so a plan has no energy.
"""

import math
import re
from typing import NamedTuple

from bert_tpu.core import command

GIB = 2**30
HOP_S = 1e-6  # from one chip to the next: https://jax-ml.github.io/scaling-book/sharding, about 1 us


class Chip(NamedTuple):
    """One TPU generation. All figures are per chip."""

    kind: str  # JAX's name of its devices
    devices: int  # JAX devices of a chip; the two cores of v4 and v5p are one device, a megacore; those of v7x are two
    flops: float  # peak dense bfloat16 FLOP/s
    hbm_gib: float  # as built; Google's page lists 95 of v5p's 96, the part that system and libtpu leave
    usable_gib: float  # the part that XLA:TPU (libtpu 0.0.52) gives to a program on all devices of the chip
    hbm_bytes_per_s: float
    clock_hz: float
    link_bytes_per_s: float  # one link, one direction
    ring: int  # an axis of this many chips, or a multiple, is a ring: its last chip is connected to its first
    watts: tuple[float, float] | None  # (mean, highest); None: not published
    watts_measured: bool  # True: both were measured. False: only the mean; the highest is an ESTIMATE


CHIPS = {
    "v3": Chip("TPU v3", 2, 123e12, 32, 30.96, 900e9, 0.94e9, 70e9, 32, (220, 262), True),
    "v4": Chip("TPU v4", 1, 275e12, 32, 30.75, 1200e9, 1.05e9, 50e9, 4, (170, 192), True),
    "v5e": Chip("TPU v5 lite", 1, 197e12, 16, 15.75, 819e9, 1.50e9, 50e9, 16, (66, 138), False),
    "v5p": Chip("TPU v5", 1, 459e12, 96, 95.73, 2765e9, 1.75e9, 100e9, 4, (331, 374), False),
    "v6e": Chip("TPU v6 lite", 1, 918e12, 32, 31.24, 1640e9, 1.75e9, 100e9, 16, (153, 385), False),
    "v7x": Chip("TPU7x", 2, 2307e12, 192, 189.48, 7380e9, 2.20e9, 100e9, 4, None, False),
}
NAMES = (
    "v3:2x2", "v3:4x4", "v4:2x2x1", "v4:2x2x4", "v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:4x4", "v5p:2x2x1", "v5p:2x2x4",
    "v6e:1x1", "v6e:2x2", "v6e:2x4", "v6e:4x4", "v7x:2x2x1", "v7x:2x2x4",
)  # fmt: skip
COMPILERS_NAMES = {"v7x": "tpu7x"}  # the generations that libtpu and Google Cloud write in another way


class Slice(NamedTuple):
    """Chips of one generation, connected in a mesh."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def generation(self) -> str:
        """The key in CHIPS."""
        return self.name.partition(":")[0]

    @property
    def compilers_name(self) -> str:
        """The name by which libtpu knows the slice."""
        generation, _, shape = self.name.partition(":")
        return f"{COMPILERS_NAMES.get(generation, generation)}:{shape}"

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        """Number of JAX devices."""
        return self.chips * self.chip.devices


def find(name: str) -> Slice:
    """The slice named GENERATION:AxB or GENERATION:AxBxC. tpu7x is v7x. Raises UserError for another name."""
    generation, _, shape = name.partition(":")
    generation = next((ours for ours, theirs in COMPILERS_NAMES.items() if theirs == generation), generation)
    chip = CHIPS.get(generation)
    axes = 3 if generation in ("v4", "v5p", "v7x") else 2
    if chip is None or not re.fullmatch("x".join(["[1-9][0-9]*"] * axes), shape):
        raise command.UserError(f"no TPU topology {name!r}: give one such as {', '.join(NAMES)}")
    return Slice(f"{generation}:{shape}", chip, tuple(map(int, shape.split("x"))))


def exchange_s(slice_: Slice, kind: str, nbytes: float, group: int) -> float:
    """ESTIMATE of the seconds that one collective takes on the links of a slice: the least that they allow.

    slice_: chips that run the collective
    kind: "all-gather", "reduce-scatter", "all-reduce", "all-to-all" or "collective-permute"
    nbytes: of the whole buffer: a device's input to a reduction, or its result of a gather
    group: JAX devices that exchange it

    The chip with the fewest neighbours is the slowest: in a mesh it has one link along each axis, in a torus two. To
    reduce-scatter or to gather n bytes over p chips, a chip receives (p - 1) / p x n bytes; to all-reduce, twice that
    (Chan et al. 2007, "Collective communication: theory, practice, and experience", section 4;
    https://jax-ml.github.io/scaling-book/sharding has the same for a torus). In an all-to-all, half of all bytes cross
    the middle of the longest axis. A permutation is assumed to go to neighbours. Each step to a neighbour takes at
    least HOP_S. The cores of one chip use no link.
    """
    chip, chips = slice_.chip, group // slice_.chip.devices
    if chips < 2:
        return 0.0
    whole = chips == slice_.chips
    links = sum(1 + _is_ring(slice_, axis) for axis in slice_.shape if axis > 1) if whole else 1
    hops = sum(axis // 2 if _is_ring(slice_, axis) else axis - 1 for axis in slice_.shape) if whole else chips - 1
    share = (chips - 1) / chips
    if kind == "all-to-all":
        longest = max(slice_.shape)
        middle = chips // longest * (1 + _is_ring(slice_, longest)) if whole else 1
        return chips / 4 * nbytes * chip.devices / (middle * chip.link_bytes_per_s) + hops * HOP_S
    if kind == "collective-permute":
        return nbytes * chip.devices / chip.link_bytes_per_s + HOP_S
    times = 2 if kind == "all-reduce" else 1
    return times * (share * nbytes / (links * chip.link_bytes_per_s) + hops * HOP_S)


def _is_ring(slice_: Slice, axis: int) -> bool:
    # v4, v5p and v7x close their rings by optical switches, which connect only whole cubes.
    axes = slice_.shape if len(slice_.shape) == 3 else (axis,)
    return all(one % slice_.chip.ring == 0 for one in axes)
