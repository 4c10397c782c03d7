"""Draws the curves of a pretraining from its metrics.jsonl.

bert-tpu plot --workdir W --out curve.png [--corpus DIR]
"""

import pathlib
from typing import Any

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import json_files, jsonl, storage
    from bert_tpu.corpus import store
    from bert_tpu.training import workdir

Curves = dict[tuple[str, int], list[dict[str, Any]]]  # (kind, sequence length) -> lines of metrics.jsonl
PANELS = (("mlm_loss", "MLM loss (nats)"), ("nsp_accuracy", "NSP accuracy"))


def read(directory: str) -> Curves:
    """Reads the lines of metrics.jsonl. Raises UserError if there are none, or if they are not a pretraining's."""
    path = pathlib.Path(directory) / "metrics.jsonl"
    curves: Curves = {}
    names: set[str] = set()
    needed = {"step": int, "kind": str, "seq_len": int}
    for number, line in enumerate(jsonl.read(path), 1):
        # A line lacks the accuracy of NSP where no row was a pair.
        figures = {name: float for name, _ in PANELS if isinstance(line, dict) and name in line}
        if json_files.misfit(line, needed | figures):
            raise command.UserError(
                f"{path}, line {number:,}, is not a pretraining's: use bert-tpu report for another run"
            )
        names |= figures.keys()
        curves.setdefault((line["kind"], line["seq_len"]), []).append(line)
    if not curves:
        raise command.UserError(f"{path} has no lines: give the --workdir of a run that has logged some")
    if not names:
        raise command.UserError(f"{path} has no losses of a pretraining: use bert-tpu report for another run")
    return curves


def entropy(directory: str, of_run: str) -> float:
    """Returns the unigram entropy of the corpus in `directory`, in nats. UserError if the run read another corpus."""
    lock = store.read(directory)
    if lock.sha256 != workdir.read_config(of_run).get("corpus", {}).get("sha256"):
        raise command.UserError(f"{of_run} did not read the corpus in {directory}: give its own, or no --corpus")
    return lock.unigram_entropy


def draw(curves: Curves, out: str, entropy: float | None = None) -> None:
    """Writes a PNG of MLM loss and NSP accuracy over steps: lines are training means, dots are evaluations.

    A run without NSP has one panel.

    curves: as `read` returns them.
    out: the file.
    entropy: the corpus' unigram entropy in nats, drawn as a dashed line.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = [panel for panel in PANELS if any(panel[0] in line for lines in curves.values() for line in lines)]
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=(5 * len(panels), 3.6), layout="constrained", squeeze=False, sharex=True
    )
    axes = grid[0]
    for axis, (name, title) in zip(axes, panels, strict=True):
        for (kind, seq_len), lines in sorted(curves.items(), reverse=True):
            points = [line for line in lines if name in line]
            if not points:
                continue
            color = "tab:blue" if seq_len == min(n for _, n in curves) else "tab:orange"
            style: dict[str, Any] = (
                {"linewidth": 1.2, "marker": "." if len(points) == 1 else None}
                if kind == "train"
                else {"marker": "o", "markersize": 4, "linestyle": "none"}
            )
            label = f"{'training' if kind == 'train' else 'held-out'}, {seq_len} tokens"
            steps = [line["step"] for line in points]
            axis.plot(steps, [line[name] for line in points], color=color, label=label, **style)
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
    if entropy:
        axes[0].axhline(entropy, color="gray", linestyle="--", linewidth=1, label="unigram entropy")
    axes[0].legend(fontsize=8)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Reads and draws."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="workdir of the run")
    parser.add_argument("--out", required=True, type=storage.local, help="PNG file to write")
    parser.add_argument("--corpus", help="corpus of the run, to draw the unigram entropy")
    args = parser.parse_args()
    if not args.out.endswith(".png"):
        raise command.UserError(f"--out {args.out} is not a PNG: give a name that ends in .png")
    command.require("a picture", "matplotlib", extra="report")
    curves = read(args.workdir)
    pathlib.Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    draw(curves, args.out, entropy(args.corpus, args.workdir) if args.corpus else None)
    print(f"{args.out}: {sum(map(len, curves.values()))} lines of {args.workdir}/metrics.jsonl")


if __name__ == "__main__":
    command.run(main)
