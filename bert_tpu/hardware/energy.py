"""Energy and carbon of computing: hours x watts x PUE x the grid's intensity, as a pair of low and high.

Watts of TPU chips: chips.py. Of a CPU, per hardware thread, idle .. fully busy: the means that the Cloud Carbon
Footprint methodology reckons with for Google's machines, 0.71 and 4.26 W (its appendix I, from SPECpower results;
https://www.cloudcarbonfootprint.org/docs/methodology). A host's share beside its chips, memory, disks and network are
not in, nor what making the hardware emitted.
"""

from typing import NamedTuple

from bert_tpu.hardware import chips

CPU = "cpu"
WATTS = {chip.kind: chip.watts for chip in chips.CHIPS.values()} | {CPU: (0.71, 4.26)}


class Energy(NamedTuple):
    """At the data centre's meter, each (low, high); kgco2e is of the electricity alone."""

    kwh: tuple[float, float]
    kgco2e: tuple[float, float]


def from_hours(hours, watts, *, pue, kgco2e_per_kwh) -> Energy:
    """Of (low, high) hours of one unit (all chips' together, or threads') that draws (low, high) watts."""
    kwh = tuple(each * power / 1000 * pue for each, power in zip(hours, watts, strict=True))
    return Energy(kwh, tuple(each * kgco2e_per_kwh for each in kwh))


def from_seconds(unit_seconds, *, pue, kgco2e_per_kwh) -> Energy | None:
    """Of what hours.json counted, {kind: seconds of its units}, as `units` has them; None of a kind without watts."""
    kwh = []
    for kind, seconds in unit_seconds.items():
        if kind not in WATTS:
            return None
        kwh.append(from_hours((seconds / 3600,) * 2, WATTS[kind], pue=pue, kgco2e_per_kwh=0).kwh)
    total = tuple(map(sum, zip(*kwh, strict=True)))
    return Energy(total, tuple(each * kgco2e_per_kwh for each in total)) if kwh else None


def count_units(kind, devices, threads) -> dict[str, int]:
    """{kind: chips} of so many JAX devices called `kind`; without chips {"cpu": threads}, of all hosts."""
    if kind == CPU:
        return {CPU: threads}
    per_chip = {chip.kind: chip.devices for chip in chips.CHIPS.values()}.get(kind, 1)
    return {kind: devices // per_chip}
