"""Documented figures of NVIDIA's GPUs, under the names by which JAX lists them.

Peak, memory and power limit are those of NVIDIA's datasheets and product briefs (A100 of 2022-05, A10, H100 of 2024-09,
H200 of 2024-11, L4, L40S, T4, DGX B200), https://www.nvidia.com/en-us/data-center, and of its white papers on GeForce
(GA102, Ada, Blackwell). The peak is dense bfloat16 with float32 sums: half of a figure "with sparsity". T4 has no unit
for bfloat16, so that it has no peak here. Names are the driver's. A part of a GPU (MIG) has a longer name and so no
figures.

NVIDIA publishes no mean power. The lower figure is an ESTIMATE, half of the limit, about the share of v5e's and v6e's
fleet means in their highest power. A GPU's limit may be set lower: `nvidia-smi -q -d POWER` prints it.
"""

from typing import NamedTuple

LEAST_SHARE = 0.5  # of the power limit


class Gpu(NamedTuple):
    """One kind of GPU; each is one JAX device."""

    flops: float | None  # peak dense bfloat16 FLOP/s; None: it has no unit for bfloat16
    memory_gb: int
    limit_w: int  # the power limit of the board

    @property
    def watts(self) -> tuple[float, float]:
        """Watts (low, high) while it trains; the low figure is an estimate."""
        return self.limit_w * LEAST_SHARE, float(self.limit_w)


GPUS = {
    "NVIDIA A100-SXM4-40GB": Gpu(312e12, 40, 400),
    "NVIDIA A100-SXM4-80GB": Gpu(312e12, 80, 400),
    "NVIDIA A100-PCIE-40GB": Gpu(312e12, 40, 250),
    "NVIDIA A100 80GB PCIe": Gpu(312e12, 80, 300),
    "NVIDIA A10": Gpu(125e12, 24, 150),
    "NVIDIA H100 80GB HBM3": Gpu(989e12, 80, 700),
    "NVIDIA H100 PCIe": Gpu(756e12, 80, 350),
    "NVIDIA H100 NVL": Gpu(835e12, 94, 400),
    "NVIDIA H200": Gpu(989e12, 141, 700),
    "NVIDIA H200 NVL": Gpu(835e12, 141, 600),
    "NVIDIA B200": Gpu(2250e12, 180, 1000),
    "NVIDIA L4": Gpu(121e12, 24, 72),
    "NVIDIA L40S": Gpu(362e12, 48, 350),
    "Tesla T4": Gpu(None, 16, 70),
    "NVIDIA GeForce RTX 3090": Gpu(71e12, 24, 350),
    "NVIDIA GeForce RTX 4090": Gpu(165e12, 24, 450),
    "NVIDIA GeForce RTX 5090": Gpu(209e12, 32, 575),
}
