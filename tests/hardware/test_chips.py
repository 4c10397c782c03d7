"""Compares the figures of TPU chips with second sources, and the least time of collectives with counts by hand."""

import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import mesh
from bert_tpu.hardware import chips

# Matrix units a chip and their width (the pages cited in chips.py): two FLOPs a cell and cycle give the peak. v6e's
# page and JAX say two units of 256 x 256. Each must count as two, because 1.75 GHz only follows from four, and
# tests/planning/test_cost.py shows that the compiler's cycles fit that clock. No page has v7x's: each of its two cores
# counts as v6e's.
UNITS = {"v3": (4, 128), "v4": (8, 128), "v5e": (4, 128), "v5p": (8, 128), "v6e": (4, 256), "v7x": (8, 256)}


@pytest.mark.parametrize("generation", chips.CHIPS)
def test_clock_and_matrix_units_give_the_peak(generation):
    chip, (units, width) = chips.CHIPS[generation], UNITS[generation]
    assert 2 * units * width**2 * chip.clock_hz == pytest.approx(chip.flops, rel=0.005)


def test_one_direction_of_all_links_is_googles_figure_in_gigabits():
    gigabits_of = {"v4": (6, 2400), "v5e": (4, 1600), "v5p": (6, 4800), "v6e": (4, 3200), "v7x": (6, 4800)}
    for generation, (links, gigabits) in gigabits_of.items():
        assert links * chips.CHIPS[generation].link_bytes_per_s * 8 == gigabits * 1e9


def test_the_highest_watts_follow_from_published_figures():
    """v5e's follows from v4's per FLOP/s, v5p's from its mean and v4's spread, v6e's from v5e's and Google's 1.67."""
    v4, v5e, v5p, v6e = (chips.CHIPS[one] for one in ("v4", "v5e", "v5p", "v6e"))
    assert v5e.watts[1] == round(v4.watts[1] / v4.flops * v5e.flops)
    assert v5p.watts[1] == round(v5p.watts[0] * v4.watts[1] / v4.watts[0])
    assert v6e.watts[1] == round(v5e.watts[1] / v5e.flops * v6e.flops / 1.67)


def test_an_estimated_maximum_agrees_with_another_claim():
    """Google, 2025: Ironwood does twice Trillium's FLOP/s a watt and nearly 30 times TPU v2's (46 TFLOP/s at 280 W)."""
    trillium = 30 / 2 * 46e12 / 280
    assert chips.CHIPS["v6e"].watts[1] == pytest.approx(918e12 / trillium, rel=0.05)


def test_both_ends_of_the_power_are_measured_where_a_maximum_is_published():
    assert [name for name, chip in chips.CHIPS.items() if chip.watts_measured] == ["v3", "v4"]
    assert all(usual < highest for usual, highest in (chip.watts for chip in chips.CHIPS.values() if chip.watts))


def test_a_program_gets_nearly_all_of_hbm():
    for chip in chips.CHIPS.values():
        assert 0.95 < chip.usable_gib / chip.hbm_gib < 1


def test_the_log_and_the_plan_use_the_same_peak():
    assert {kind: mesh.PEAK_FLOPS[kind] for kind in ("TPU v3", "TPU v4", "TPU v5 lite", "TPU v5p", "TPU7x")} == {
        "TPU v3": 61.5e12, "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5p": 459e12, "TPU7x": 1153.5e12,
    }  # fmt: skip
    assert mesh.peak_flops(mesh.make(jax.devices())) is None  # a CPU


def test_slices_by_name():
    pod = chips.find("v3:4x4")
    assert (pod.generation, pod.chips, pod.devices) == ("v3", 16, 32)
    assert (chips.find("v4:2x2x4").chips, chips.find("v4:2x2x4").devices) == (16, 16)
    assert [chips.find(name).name for name in chips.NAMES] == list(chips.NAMES)
    ironwood = chips.find("tpu7x:2x2x4")  # as Google Cloud and libtpu write it
    assert ironwood == chips.find("v7x:2x2x4")
    assert (ironwood.generation, ironwood.devices, ironwood.compilers_name) == ("v7x", 32, "tpu7x:2x2x4")
    assert chips.find("v5e:4x4").compilers_name == "v5e:4x4"


@pytest.mark.parametrize("name", ["", "v5e", "v5e:", "v5e:16", "v5e:4x4x1", "v4:4x4", "v9:4x4", "v5e:0x4", "v5e:4x-4"])
def test_a_wrong_topology_is_answered_by_right_ones(name):
    with pytest.raises(command.UserError, match=r"give one such as .*v5e:4x4"):
        chips.find(name)


def simulated_gather_s(shape, size, speed):
    """Seconds of an all-gather over a mesh without rings, axis by axis; each part takes the axes in turn."""
    axes = [n for n in shape if n > 1]
    parts = len(axes)
    total = 0.0
    for phase in range(parts):
        slowest = 0.0
        for part in range(parts):
            order = axes[part:] + axes[:part]
            known = (
                size / parts / np.prod(axes) * np.prod(order[:phase])
            )  # bytes of its part that a chip has before the phase
            slowest = max(slowest, known * (order[phase] - 1) / speed)  # an end chip receives n - 1 times that
        total += slowest
    return total


@pytest.mark.parametrize("name", ["v5e:4x4", "v5e:2x2", "v6e:4x4", "v5p:2x2x1"])
def test_no_schedule_gathers_faster_and_one_is_as_fast(name):
    """On equal axes, phases that keep all links busy reach the bound exactly."""
    slice_, size = chips.find(name), 2**30
    bound = chips.exchange_s(slice_, "all-gather", size, slice_.devices)
    reached = simulated_gather_s(slice_.shape, size, slice_.chip.link_bytes_per_s)
    assert bound == pytest.approx(reached, rel=2e-3)  # the rest is the hops


def test_uneven_axes_are_bounded_from_below():
    slice_, size = chips.find("v4:2x2x4"), 2**30
    bound = chips.exchange_s(slice_, "all-gather", size, slice_.devices)
    assert bound < simulated_gather_s(slice_.shape, size, slice_.chip.link_bytes_per_s)


def test_kinds_of_collectives():
    slice_, size = chips.find("v5e:4x4"), 2**30
    one = {kind: chips.exchange_s(slice_, kind, size, 16) for kind in ("all-gather", "reduce-scatter", "all-reduce")}
    assert one["all-gather"] == one["reduce-scatter"] == one["all-reduce"] / 2
    assert chips.exchange_s(slice_, "collective-permute", size, 16) == pytest.approx(size / 50e9, rel=1e-4)
    # Each of the 8 chips on a side of the middle sends half of its GiB across, over 4 links.
    assert chips.exchange_s(slice_, "all-to-all", size, 16) == pytest.approx(8 * size / 2 / (4 * 50e9), rel=1e-3)


def test_rings_double_the_links():
    size = 2**30
    for ring, mesh_of_chips in (("v5e:16x16", "v5e:8x8"), ("v4:4x4x4", "v4:2x2x2")):
        both = [chips.find(name) for name in (ring, mesh_of_chips)]
        times = [chips.exchange_s(slice_, "all-reduce", size, slice_.devices) for slice_ in both]
        shares = [1 - 1 / slice_.chips for slice_ in both]
        assert times[1] / times[0] == pytest.approx(2 * shares[1] / shares[0], rel=0.01)
    # Only whole cubes are connected to rings: an axis of 4 in a smaller slice has two ends.
    least = 2 * 15 / 16 * size / (3 * 50e9)
    assert chips.exchange_s(chips.find("v4:2x2x4"), "all-reduce", size, 16) == pytest.approx(least, rel=0.01)


def test_cores_of_a_chip_exchange_without_links():
    slice_ = chips.find("v3:4x4")
    assert chips.exchange_s(slice_, "all-reduce", 2**30, 2) == 0
    # The gradients of both cores are added before they leave the chip.
    assert chips.exchange_s(slice_, "all-reduce", 2**30, 32) == pytest.approx(2 * 15 / 16 * 2**30 / 2 / 70e9, rel=1e-3)


def test_a_small_message_takes_its_hops():
    assert chips.exchange_s(chips.find("v5e:4x4"), "all-reduce", 4, 16) == pytest.approx(2 * 6 * chips.HOP_S, rel=1e-3)
