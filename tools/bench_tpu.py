"""Compiler cycles of the training step on sixteen absent TPU chips, beside Hugging Face's on the same compiler.

python -m tools.bench_tpu [--topology v5e:4x4 ...] [--lengths 128 512] [--config.x.y=z]

Config: configs/bert.py:medium, batch 256, unless --config says otherwise. M cycles of one core on v3, of a chip (a
megacore) elsewhere, executed: loop bodies times trips. Collectives and what carries no figure stand beside them.

The peer's column is recorded, not run: FlaxBertForPreTraining of transformers 4.57.6, bfloat16, dropout 0.1, AdamW,
its MLM loss over all places, 8/512, batch 256, under jax 0.10.2 and libtpu 0.0.52. Its programs have no loops.
"""

import argparse
import sys

from bert_tpu.core import command
from bert_tpu.hardware import chips
from bert_tpu.planning import plan
from bert_tpu.pretrain import pretraining

# (topology, length) -> M cycles: of the peer, and the most that this project allows itself.
PEER = {
    ("v3:4x4", 128): 14.71, ("v3:4x4", 512): 52.76, ("v4:2x2x4", 128): 10.28, ("v4:2x2x4", 512): 38.19,
    ("v5e:4x4", 128): 14.68, ("v5e:4x4", 512): 57.78,
}  # fmt: skip
MUST = {
    ("v3:4x4", 128): 7.3, ("v3:4x4", 512): 26, ("v4:2x2x4", 128): 5.1, ("v4:2x2x4", 512): 19,
    ("v5e:4x4", 128): 7.3, ("v5e:4x4", 512): 29,
}  # fmt: skip
HEAD = "topology   length   ours  HF Flax  ratio  must  met   collectives MiB, ms on links   without a figure"


def main():
    """Prints one line for each topology and length."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", nargs="+", default=sorted({name for name, _ in PEER}))
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512])
    words = sys.argv[1:]
    if not any(word.split("=")[0] == "--config" for word in words):
        words = ["--config=configs/bert.py:medium", *words]
    args = pretraining.parse(parser, words)
    slices = [chips.find(name) for name in args.topology]
    missing = sorted(set(args.lengths) - set(args.config.data.seq_lens))
    if missing:
        raise command.UserError(f"no length {missing[0]} in config.data.seq_lens {args.config.data.seq_lens}")
    print(f"M cycles, {args.config_name}, batch {args.config.batch_size}\n{HEAD}", flush=True)
    for where in slices:
        for n, one in plan.plan_lengths(args.config, where, args.lengths).items():
            print(line(where.name, n, one), flush=True)


def line(name, n, one) -> str:
    """One row of the table."""
    if not one.program.fits:
        return f"{name:<10} {n:>6}   does not fit"
    cycles, peer, must = one.program.cost.cycles / 1e6, PEER.get((name, n)), MUST.get((name, n))
    beside = (
        f"{peer:8.2f} {peer / cycles:6.2f} {must:5.1f}  {'yes' if cycles <= must else 'NO ':<3}" if peer else " " * 26
    )
    exchanged = sum(size for _, size, _ in one.exchanges.values()) / 2**20
    rest = ", ".join(f"{kind} {each.runs}" for kind, each in one.program.cost.uncosted.items())
    return f"{name:<10} {n:>6} {cycles:6.2f} {beside}   {exchanged:12.1f}, {one.times.links * 1e3:8.2f}        {rest}"


if __name__ == "__main__":
    command.run(main)
