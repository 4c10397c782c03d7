"""A model in ONNX, whole and smaller: python -m tools.export_onnx --model DIR [--workdir W] [--rows N]

DIR, which tools.export_pytorch made, gets onnx/model.onnx (float32), onnx/model_quantized.onnx (int8) and
onnx/model_q4.onnx (4-bit weights), as transformers.js looks for them, and onnx/quantization.json: bytes and
milliseconds of each, and with the workdir that the model was trained in what it loses of its held-out losses or of its
task's scores. The model card gets the same table.
"""

import argparse
from pathlib import Path

from bert_tpu.core import command, storage
from bert_tpu.export import onnx_files
from bert_tpu.report import card_sections, model_card


def main() -> None:
    """Reads the flags, exports, measures and prints the table."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR", help="of tools.export_pytorch")
    parser.add_argument("--workdir", metavar="W", help="of its pretraining or fine-tuning")
    parser.add_argument("--rows", type=int, default=256, help="held-out rows of each length, at most (256)")
    args = parser.parse_args()
    if args.rows < 1:
        raise command.UserError(f"--rows {args.rows}: give 1 or more")
    command.quiet_tensorflow()
    costs = onnx_files.write(args.model, args.workdir, args.rows)
    table = card_sections.onnx_table(costs)
    print(table)
    readme = Path(args.model) / "README.md"
    if readme.is_file() and (
        text := model_card.replace_section(readme.read_text(encoding="utf-8"), model_card.ONNX_HEADING, table)
    ):
        with storage.atomic_file(readme) as file:
            file.write(text.encode())


if __name__ == "__main__":
    command.run(main)
