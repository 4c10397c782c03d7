"""Draws a pretraining's curves from metrics.jsonl.

python -m tools.plot_metrics --workdir W --out curve.png [--corpus DIR]
"""

import pathlib

from bert_tpu.core import command, jsonl
from bert_tpu.corpus import store
from bert_tpu.training import workdir

PANELS = (("mlm_loss", "MLM loss (nats)"), ("nsp_accuracy", "NSP accuracy"))


def read(directory):
    """Lines of metrics.jsonl by (kind, length). UserError where there are none, or one that is no pretraining's."""
    path = pathlib.Path(directory) / "metrics.jsonl"
    curves, needed = {}, {"step", "kind", "seq_len", *(name for name, _ in PANELS)}
    for number, line in enumerate(jsonl.read(path), 1):
        if not needed <= line.keys():
            raise command.UserError(
                f"{path}, line {number:,}, is no pretraining's: take python -m tools.report for another run"
            )
        curves.setdefault((line["kind"], line["seq_len"]), []).append(line)
    if not curves:
        raise command.UserError(f"{path} has no lines: give the --workdir of a run that has logged some")
    return curves


def entropy(directory, of_run):
    """The unigram entropy of the corpus in `directory`; UserError where the run has read another."""
    lock = store.read(directory)
    if lock.sha256 != workdir.read_config(of_run).get("corpus", {}).get("sha256"):
        raise command.UserError(f"{of_run} has not read the corpus in {directory}: give its own, or no --corpus")
    return lock.unigram_entropy


def draw(curves, out, entropy=None):
    """A PNG of MLM loss and NSP accuracy over steps: lines are training means, dots held-out text."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, (name, title) in zip(axes, PANELS, strict=True):
        for (kind, seq_len), of_length in sorted(curves.items(), reverse=True):
            color = "tab:blue" if seq_len == min(n for _, n in curves) else "tab:orange"
            style = (
                {"linewidth": 1.2, "marker": "." if len(of_length) == 1 else None}
                if kind == "train"
                else {"marker": "o", "markersize": 4, "linestyle": "none"}
            )
            label = f"{'training' if kind == 'train' else 'held-out'}, {seq_len} tokens"
            steps = [line["step"] for line in of_length]
            axis.plot(steps, [line[name] for line in of_length], color=color, label=label, **style)
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
    if entropy:
        axes[0].axhline(entropy, color="gray", linestyle="--", linewidth=1, label="unigram entropy")
    axes[0].legend(fontsize=8)
    figure.savefig(out, dpi=120)


def main():
    """Reads and draws."""
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of the run")
    parser.add_argument("--out", required=True, help="PNG to write")
    parser.add_argument("--corpus", help="that it read, for the line of the unigram entropy")
    args = parser.parse_args()
    if not args.out.endswith(".png"):
        raise command.UserError(f"--out {args.out} is no PNG: give a name that ends in .png")
    curves = read(args.workdir)
    pathlib.Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    draw(curves, args.out, args.corpus and entropy(args.corpus, args.workdir))
    print(f"{args.out}: {sum(map(len, curves.values()))} lines of {args.workdir}/metrics.jsonl")


if __name__ == "__main__":
    command.run(main)
