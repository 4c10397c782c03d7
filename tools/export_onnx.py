"""Writes an exported model as ONNX files in float32, int8 and 4 bits, and measures each.

bert-tpu onnx --model DIR [--workdir W] [--rows N]

DIR is a directory written by bert-tpu export. It gets onnx/model.onnx (float32), onnx/model_quantized.onnx (int8)
and onnx/model_q4.onnx (4-bit weights), the names that transformers.js looks for, and onnx/quantization.json with the
bytes and milliseconds of each file. With the workdir in which the model was trained, each file's losses on the
evaluation split, or its task's scores, are measured too. The model card gets the same table.
"""

from pathlib import Path

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.export import onnx_files
    from bert_tpu.report import card_sections, model_card


def main() -> None:
    """Exports, measures, and prints the table."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="directory written by bert-tpu export")
    parser.add_argument("--workdir", metavar="W", help="workdir of the model's pretraining or fine-tuning")
    parser.add_argument("--rows", type=int, help="pretraining: held-out rows for each length, at most (default: 256)")
    args = parser.parse_args()
    if args.rows is not None and args.workdir is None:
        raise command.UserError("--rows needs --workdir, in whose held-out rows the model is scored")
    if args.rows is not None and args.rows < 1:
        raise command.UserError(f"--rows {args.rows}: give 1 or more")
    command.quiet_tensorflow()
    costs = onnx_files.write(args.model, args.workdir, args.rows)
    table = card_sections.onnx_table(costs)
    print(table)
    readme = Path(args.model) / "README.md"
    if readme.is_file() and (
        text := model_card.replace_section(readme.read_text(encoding="utf-8"), model_card.ONNX_HEADING, table)
    ):
        storage.write_text(readme, text)


if __name__ == "__main__":
    command.run(main)
