"""Writes the model card of an export again, with later results.

bert-tpu card --model DIR --workdir W [--bias OUT] [--scores V ...] [--plan FILE]

DIR/README.md becomes the card of the run W. It has the figures of W, and those of bert-tpu bias, of fine-tunings of
the model, of bert-tpu plan --json, and of DIR/onnx if bert-tpu onnx wrote it. The card names each figure that nobody
measured.
"""

from pathlib import Path
from typing import Any

from bert_tpu.core import command

with command.imports():
    import huggingface_hub

    from bert_tpu.bias import audit
    from bert_tpu.core import json_files, storage
    from bert_tpu.export import onnx_files
    from bert_tpu.finetune import finetuning
    from bert_tpu.huggingface import hf
    from bert_tpu.monitoring import scores_file
    from bert_tpu.report import evidence, model_card
    from bert_tpu.training import workdir

PLAN = {"topology": str, "chips": int, "kgco2e_low": float, "kgco2e_high": float}  # the keys that a card needs


def main() -> None:
    """Writes the card."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="directory of a pretraining, written by bert-tpu export")
    parser.add_argument("--workdir", required=True, help="workdir of that pretraining")
    parser.add_argument("--bias", help="directory written by bert-tpu bias")
    parser.add_argument("--scores", nargs="*", default=[], help="workdirs of the model's fine-tunings")
    parser.add_argument("--plan", help="file with the output of bert-tpu plan --json")
    args = parser.parse_args()
    readme, config = Path(args.model) / "README.md", workdir.read_config(args.workdir)
    if "task" in config:
        raise command.UserError(f"{args.workdir} is a fine-tuning's, whose card its export wrote: give a pretraining's")
    facts = _export_facts(readme)
    if not workdir.has_identity(config, facts.get("run")):
        raise command.UserError(
            f"{args.model} was not exported from {args.workdir}: give the workdir that it came from"
        )
    model = hf.load(args.model)
    findings = model_card.LaterResults(
        bias=_bias(args.bias, model) if args.bias else "",
        scores=tuple(_scores(path, finetuning.start_sha256(model)) for path in args.scores),
        plan=_plan(args.plan) if args.plan else {},
        onnx=onnx_files.read(args.model),
    )
    run = evidence.read(args.workdir, config, facts.get("step"))
    text = model_card.pretrained(Path(args.model).resolve().name, model.model, run, facts, findings)
    storage.write_text(readme, text)
    print(f"{readme}: written")


def _export_facts(readme: Path) -> dict[str, Any]:
    """Returns the facts that the export wrote to the card's metadata."""
    if not readme.is_file():
        raise command.UserError(f"there is no {readme}: export the model with bert-tpu export")
    facts = huggingface_hub.ModelCard.load(readme, ignore_metadata_errors=True).data.to_dict().get(model_card.FACTS)
    if not facts:
        raise command.UserError(f"{readme} was not written by bert-tpu export: export the model again")
    return facts


def _bias(directory: str, model: hf.Pretrained) -> str:
    """Returns the audit's tables. Raises UserError if other weights were audited."""
    path = Path(directory) / "bias.json"
    audited = [entry["weights_sha256"] for entry in _json(path, {"models": [{"weights_sha256": str}]})["models"]]
    if audit.weights_sha256(model) not in audited:
        raise command.UserError(f"{directory} is the audit of another model: give the one of --model")
    return _read(Path(directory) / "bias.md")


def _scores(directory: str, start: str) -> tuple[str, dict[str, Any]]:
    """Returns (task, content of scores.json) of a fine-tuning's workdir.

    start: hash of the model (finetuning.start_sha256). Raises UserError if the fine-tuning began with another one
    """
    config = workdir.read_config(directory)
    if "task" not in config:
        raise command.UserError(f"{directory} is not a fine-tuning's workdir: give one written by bert-tpu finetune")
    if not finetuning.is_start(start, config):
        raise command.UserError(
            f"{directory} is a fine-tuning of {config['init_from']}, which has other weights than --model: give one "
            "that started from --model"
        )
    return config["task"]["name"], _json(Path(directory) / scores_file.FILE, scores_file.SHAPE)


def _plan(path: str) -> dict[str, Any]:
    return _json(path, PLAN, remedy="give a file with the output of bert-tpu plan --json")


def _json(path: str | Path, shape: Any, remedy: str = "write it again") -> Any:
    _check_exists(path)
    return json_files.read(path, shape, remedy=remedy)


def _check_exists(path: str | Path) -> None:
    if not Path(path).is_file():
        raise command.UserError(f"there is no {path}: write it, or leave out its option")


def _read(path: str | Path) -> str:
    _check_exists(path)
    return Path(path).read_text(encoding="utf-8")


if __name__ == "__main__":
    command.run(main)
