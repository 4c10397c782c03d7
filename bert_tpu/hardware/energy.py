"""Energy and carbon of computing: hours x watts x PUE x the grid's intensity, as a pair (low, high).

Watts of TPU chips: chips.py; of GPUs: gpus.py. Watts of a CPU, per hardware thread, from idle to fully busy: 0.71 and
4.26 W. These are the means that the Cloud Carbon Footprint methodology uses for Google's machines (its appendix I, from
SPECpower results; https://www.cloudcarbonfootprint.org/docs/methodology). Not counted: the rest of a host with TPU
chips or GPUs, its memory, disks and network, and the emissions of building the hardware.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bert_tpu.hardware import chips, gpus

CPU = "cpu"
WATTS = {chip.kind: chip.watts for chip in chips.CHIPS.values() if chip.watts} | {
    kind: gpu.watts for kind, gpu in gpus.GPUS.items()
}
WATTS[CPU] = (0.71, 4.26)


class Energy(NamedTuple):
    """Energy at the data centre's meter, each (low, high); kgco2e is that of the electricity alone."""

    kwh: tuple[float, float]
    kgco2e: tuple[float, float]


def from_hours(hours: tuple[float, float], watts: tuple[float, float], *, pue: float, kgco2e_per_kwh: float) -> Energy:
    """Energy of `hours` (low, high) of a unit (a chip, or a CPU thread) that draws `watts` (low, high).

    hours: summed over all units
    pue: power usage effectiveness, the data centre's power over that of its computers
    kgco2e_per_kwh: carbon intensity of the grid
    """
    kwh = (hours[0] * watts[0] / 1000 * pue, hours[1] * watts[1] / 1000 * pue)
    return Energy(kwh, _carbon(kwh, kgco2e_per_kwh))


def from_seconds(unit_seconds: Mapping[str, float], *, pue: float, kgco2e_per_kwh: float) -> Energy | None:
    """Energy of the `unit_seconds` in hours.json; None if the watts of a kind are unknown.

    unit_seconds: {kind: seconds of its units}, kinds as in `count_units`
    """
    if not unit_seconds or not unit_seconds.keys() <= WATTS.keys():
        return None
    parts = [
        from_hours((seconds / 3600, seconds / 3600), WATTS[kind], pue=pue, kgco2e_per_kwh=0).kwh
        for kind, seconds in unit_seconds.items()
    ]
    total = sum(low for low, _ in parts), sum(high for _, high in parts)
    return Energy(total, _carbon(total, kgco2e_per_kwh))


def _carbon(kwh: tuple[float, float], kgco2e_per_kwh: float) -> tuple[float, float]:
    return kwh[0] * kgco2e_per_kwh, kwh[1] * kgco2e_per_kwh


def count_units(kind: str, devices: int, threads: int) -> dict[str, int]:
    """{kind: number of chips or GPUs} of `devices` JAX devices named `kind`; on CPUs {"cpu": threads}.

    devices, threads: of all hosts
    """
    if kind == CPU:
        return {CPU: threads}
    per_chip = {chip.kind: chip.devices for chip in chips.CHIPS.values()}.get(kind, 1)
    return {kind: devices // per_chip}
