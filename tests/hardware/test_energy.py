"""Energy and carbon: the arithmetic on documented watts, and the units that draw them."""

import pytest

from bert_tpu.hardware import chips, energy


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


def test_a_device_of_unknown_watts_is_not_guessed():
    assert energy.from_seconds({"NVIDIA H100": 3600.0, "cpu": 1.0}, pue=1.0, kgco2e_per_kwh=0.3) is None
    assert energy.from_seconds({}, pue=1.0, kgco2e_per_kwh=0.3) is None
