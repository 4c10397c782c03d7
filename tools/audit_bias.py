"""How biased a model is, by four published measures: tables, a picture, and a file for machines.

python -m tools.audit_bias --model DIR [--model DIR2 ...] --data DIR --out OUT [--tasks crows stereoset ...]

A model is any BERT of Hugging Face with an MLM head, or a pretraining's workdir; several stand side by side. The data's
DIR has some of the benchmarks' official files, in folders or not: crows_pairs_anonymized.csv (CrowS-Pairs); dev.json or
stereoset/dev*.json (StereoSet); all_sentences.tsv and occupations-stats.tsv (Winogender). What is missing is said and
skipped; `templates`, occupations of a man and a woman, needs none. OUT gets bias.json, bias.md and bias.png. Needs no
PyTorch.
"""

import argparse
import json
import sys

from bert_tpu.bias import audit, chart, markdown
from bert_tpu.core import command, storage
from bert_tpu.training import checkpoint


def main() -> None:
    """Reads the files and the models, scores, writes OUT and prints its tables."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="may be given several times")
    parser.add_argument("--data", required=True, metavar="DIR", help="with the benchmarks' files")
    parser.add_argument("--out", required=True, help="a new directory")
    parser.add_argument("--tasks", nargs="+", choices=audit.OPEN, default=list(audit.OPEN), help="all, if left out")
    args = parser.parse_args()
    checkpoint.quiet_orbax()
    chart.require()
    with storage.atomic_directory(args.out) as out:
        tasks, skipped = audit.tasks(args.data, args.tasks)
        for name, reason in skipped.items():
            print(f"{name} is skipped: {reason}", file=sys.stderr)
        made = audit.audit(args.model, tasks, skipped)
        (out / "bias.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        (out / "bias.md").write_text(markdown.markdown(made), encoding="utf-8")
        with (out / "bias.png").open("wb") as file:
            chart.draw(made, file)
    print(markdown.markdown(made))


if __name__ == "__main__":
    command.run(main)
