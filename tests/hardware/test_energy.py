"""Energy and carbon: the arithmetic on documented watts, and the units that draw them."""

import pytest

from bert_tpu.distributed import mesh
from bert_tpu.hardware import chips, energy, gpus


def test_kwh_and_kg_of_a_known_run():
    """Compares 200 hours of 16 v3 chips at 220 .. 262 W with figures computed by hand."""
    estimate = energy.from_hours((3200, 3200), (220, 262), pue=1.1, kgco2e_per_kwh=0.5)
    assert estimate.kwh == pytest.approx((774.4, 922.24))
    assert estimate.kgco2e == pytest.approx((387.2, 461.12))


def test_both_cores_of_a_v3_chip_are_one_chip():
    assert energy.count_units("TPU v3", 32, threads=384) == {"TPU v3": 16}
    assert energy.count_units("TPU v4", 16, threads=960) == {"TPU v4": 16}


def test_hours_on_chips_and_on_a_cpu_add_up():
    seconds = {"TPU v5 lite": 16 * 3600.0, "cpu": 8 * 1800.0}
    estimate = energy.from_seconds(seconds, pue=1.0, kgco2e_per_kwh=0.25)
    low, high = chips.CHIPS["v5e"].watts
    assert estimate.kwh == pytest.approx(((16 * low + 4 * 0.71) / 1000, (16 * high + 4 * 4.26) / 1000))
    assert estimate.kgco2e == pytest.approx(tuple(0.25 * kwh for kwh in estimate.kwh))


def test_a_gpu_is_one_unit_with_its_limit_as_the_highest_watts():
    assert energy.count_units("NVIDIA H100 80GB HBM3", 8, threads=384) == {"NVIDIA H100 80GB HBM3": 8}
    estimate = energy.from_seconds({"NVIDIA H100 80GB HBM3": 8 * 3600.0}, pue=1.0, kgco2e_per_kwh=0.5)
    assert estimate.kwh == (2.8, 5.6)
    assert estimate.kgco2e == (1.4, 2.8)


@pytest.mark.parametrize(
    ("kind", "units", "clock_hz"),
    [  # FLOPs of bfloat16 in a cycle and the boost clock, from the white papers: units x 2 x products a unit
        ("NVIDIA A100-SXM4-80GB", 432 * 2 * 256, 1.41e9),
        ("NVIDIA H100 80GB HBM3", 528 * 2 * 512, 1.83e9),
        ("NVIDIA H200", 528 * 2 * 512, 1.83e9),
        ("NVIDIA H100 PCIe", 456 * 2 * 512, 1.62e9),
        ("NVIDIA L4", 240 * 2 * 128, 1.97e9),
        ("NVIDIA L40S", 568 * 2 * 128, 2.49e9),
        ("NVIDIA A10", 288 * 2 * 128, 1.695e9),
        ("NVIDIA GeForce RTX 3090", 328 * 2 * 64, 1.695e9),
        ("NVIDIA GeForce RTX 4090", 512 * 2 * 64, 2.52e9),
    ],
)
def test_units_and_clock_give_the_peak_without_sparsity(kind, units, clock_hz):
    assert units * clock_hz == pytest.approx(gpus.GPUS[kind].flops, rel=0.02)
    assert gpus.GPUS[kind].flops == mesh.PEAK_FLOPS[kind]


def test_a_gpu_without_bfloat16_has_watts_and_no_peak():
    assert energy.WATTS["Tesla T4"] == (35, 70)
    assert "Tesla T4" not in mesh.PEAK_FLOPS


def test_a_device_of_unknown_watts_is_not_guessed():
    assert (
        energy.from_seconds({"NVIDIA H100 80GB HBM3 MIG 1g.10gb": 3600.0, "cpu": 1.0}, pue=1.0, kgco2e_per_kwh=0.3)
        is None
    )
    assert energy.from_seconds({}, pue=1.0, kgco2e_per_kwh=0.3) is None
