"""Measures the social bias of one or several models by four published measures.

bert-tpu bias --model DIR [--model DIR2 ...] --data DIR --out OUT [--tasks crows stereoset ...]

A model is any BERT of Hugging Face with an MLM head, or a pretraining's workdir. The tables compare all models. The
folder of --data has some of the benchmarks' official files, also in folders below it: crows_pairs_anonymized.csv
(CrowS-Pairs); dev.json or stereoset/dev*.json (StereoSet); all_sentences.tsv and occupations-stats.tsv (Winogender). A
task whose file is missing is named and skipped. The task `templates`, occupations of a man and a woman, needs no file.

OUT gets bias.json, bias.md with the tables, and bias.png. No PyTorch is needed.
"""

import json
import sys

from bert_tpu.core import command

with command.imports():
    from bert_tpu.bias import audit, chart, markdown
    from bert_tpu.core import storage
    from bert_tpu.training import orbax_setup


def main() -> None:
    """Reads the files, scores the models, writes OUT and prints its tables."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--model", action="append", required=True, help="a model's directory; repeat the option for several models"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of the benchmarks' files")
    parser.add_argument("--out", required=True, type=storage.local, help="new directory for the results")
    parser.add_argument("--tasks", nargs="+", choices=audit.OPEN, default=list(audit.OPEN), help="default: all")
    args = parser.parse_args()
    orbax_setup.quiet()
    chart.require()
    with storage.atomic_directory(args.out) as out:
        tasks, skipped = audit.tasks(args.data, args.tasks)
        for name, reason in skipped.items():
            print(f"{name} is skipped: {reason}", file=sys.stderr)
        for task in tasks:
            if task.remark:
                print(f"{task.name}: {task.remark}", file=sys.stderr)
        results = audit.audit(args.model, tasks, skipped)
        (out / "bias.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (out / "bias.md").write_text(markdown.markdown(results), encoding="utf-8")
        with (out / "bias.png").open("wb") as file:
            chart.draw(results, file)
    print(markdown.markdown(results))


if __name__ == "__main__":
    command.run(main)
