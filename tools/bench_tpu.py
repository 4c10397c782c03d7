"""Prints the compiler's cycles of a training step for absent TPU chips, next to those of Hugging Face.

bert-tpu bench-tpu [--topology v5e:4x4 ...] [--lengths 128 512] [--config.x.y=z]

The config is bert:medium, batch 256, unless --config names another. The figures are M cycles executed (loop
bodies times trips) of one core on v3, and of a whole chip elsewhere. Then come the collectives' bytes, and
ESTIMATES of time: on the links, the part that the device waits, and the step by the compiler's schedule. The last
column has the instructions for which the compiler has no figure.

The peer's column is recorded, not run: FlaxBertForPreTraining of transformers 4.57.6, bfloat16, dropout 0.1, AdamW,
its MLM loss over all positions, 8/512, batch 256, under jax 0.10.2 and libtpu 0.0.52. Its programs have no loops.
"""

import sys

from bert_tpu.core import command

with command.imports():
    from bert_tpu.hardware import chips
    from bert_tpu.planning import plan
    from bert_tpu.pretrain import pretraining

# (topology, length) -> M cycles: PEER has those of Hugging Face, MUST this project's limits.
PEER = {
    ("v3:4x4", 128): 14.71, ("v3:4x4", 512): 52.76, ("v4:2x2x4", 128): 10.28, ("v4:2x2x4", 512): 38.19,
    ("v5e:4x4", 128): 14.68, ("v5e:4x4", 512): 57.78,
}  # fmt: skip
MUST = {
    ("v3:4x4", 128): 7.3, ("v3:4x4", 512): 26, ("v4:2x2x4", 128): 5.1, ("v4:2x2x4", 512): 19,
    ("v5e:4x4", 128): 7.3, ("v5e:4x4", 512): 29,
}  # fmt: skip
# Sixteen chips of each generation, and one machine of eight.
TOPOLOGIES = ("v3:4x4", "v4:2x2x4", "v5e:4x4", "v5p:2x2x4", "v6e:4x4", "v5e:2x4")
HEAD = "topology   length   ours  HF Flax  ratio  must  met   links: MiB      ms  waited   step, ms   without a figure"


def main() -> None:
    """Prints one line for each topology and length."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--topology", nargs="+", default=TOPOLOGIES, help=f"default: {' '.join(TOPOLOGIES)}")
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512], help="sequence lengths (128 512)")
    words = sys.argv[1:]
    if not any(word.split("=")[0] == "--config" for word in words):
        words = ["--config=bert:medium", *words]
    args = pretraining.parse(parser, words)
    slices = [chips.find(name) for name in args.topology]
    missing = sorted(set(args.lengths) - set(args.config.data.seq_lens))
    if missing:
        raise command.UserError(f"no length {missing[0]} in config.data.seq_lens {args.config.data.seq_lens}")
    print(f"M cycles, {args.config_name}, batch {args.config.batch_size}\n{HEAD}", flush=True)
    for topology in slices:
        job = plan.check(args.config, topology).job
        for n, length_plan in plan.plan_lengths(args.config, topology, job, args.lengths).items():
            print(line(topology.name, n, length_plan), flush=True)


def line(name: str, seq_len: int, length_plan: plan.LengthPlan) -> str:
    """One row of the table. name: of the topology."""
    cost, times = length_plan.program.cost, length_plan.times
    if cost is None or times is None:
        return f"{name:<10} {seq_len:>6}   does not fit"
    cycles, key, comparison = cost.cycles / 1e6, (name, seq_len), " " * 26
    if key in PEER:
        is_met = "yes" if cycles <= MUST[key] else "NO "
        comparison = f"{PEER[key]:8.2f} {PEER[key] / cycles:6.2f} {MUST[key]:5.1f}  {is_met:<3}"
    exchanged_mib = sum(size for _, size, _ in length_plan.exchanges.values()) / 2**20
    uncosted = ", ".join(f"{kind} {part.runs}" for kind, part in cost.uncosted.items())
    return (
        f"{name:<10} {seq_len:>6} {cycles:6.2f} {comparison}   {exchanged_mib:10.1f} {times.links * 1e3:7.2f} "
        f"{times.exposed * 1e3:7.2f} {times.scheduled * 1e3:10.2f}   {uncosted}"
    )


if __name__ == "__main__":
    command.run(main)
