"""The model card of an export, written again with what was found since.

python -m tools.model_card --model DIR --workdir W [--bias OUT] [--scores V ...] [--plan FILE]

DIR/README.md is then the card of the run W: its figures, and those of tools.audit_bias, of fine-tunings of the model,
of tools.plan --json, and of DIR/onnx where tools.export_onnx made it. What nobody measured says so.
"""

import json
from pathlib import Path

import huggingface_hub

from bert_tpu.bias import audit
from bert_tpu.core import command, storage
from bert_tpu.export import onnx_files
from bert_tpu.huggingface import hf
from bert_tpu.report import evidence, model_card
from bert_tpu.training import workdir


def main():
    """Reads the flags and writes."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--model", required=True, help="directory that tools.export_pytorch made of a pretraining")
    parser.add_argument("--workdir", required=True, help="of that pretraining")
    parser.add_argument("--bias", help="directory that tools.audit_bias made")
    parser.add_argument("--scores", nargs="*", default=[], help="workdirs of fine-tunings of the model")
    parser.add_argument("--plan", help="file of what tools.plan --json printed")
    args = parser.parse_args()
    readme, config = Path(args.model) / "README.md", workdir.read_config(args.workdir)
    if "task" in config:
        raise command.UserError(f"{args.workdir} is a fine-tuning's, whose card its export wrote: give a pretraining's")
    kept = _kept(readme)
    if not workdir.has_identity(config, kept.get("run")):
        raise command.UserError(
            f"{args.model} was not exported from {args.workdir}: give the workdir that it came from"
        )
    model = hf.load(args.model)
    findings = model_card.Findings(
        bias=_bias(args.bias, model) if args.bias else "",
        scores=tuple(_scores(path) for path in args.scores),
        planned=_plan(args.plan) if args.plan else {},
        small=onnx_files.read(args.model),
    )
    found = evidence.read(args.workdir, config)
    with storage.atomic_file(readme) as made:
        made.write(model_card.pretrained(Path(args.model).resolve().name, model.model, found, kept, findings).encode())
    print(f"{readme}: written")


def _kept(readme):
    """What the export said of itself in the card's metadata."""
    if not readme.is_file():
        raise command.UserError(f"there is no {readme}: export the model with tools.export_pytorch")
    kept = huggingface_hub.ModelCard.load(readme, ignore_metadata_errors=True).data.to_dict().get(model_card.FACTS)
    if not kept:
        raise command.UserError(f"{readme} was not written by tools.export_pytorch: export the model again")
    return kept


def _bias(directory, model):
    """The audit's tables, if these very weights were audited."""
    audited = [each["weights_sha256"] for each in _json(Path(directory) / "bias.json")["models"]]
    if audit.weights_sha256(model) not in audited:
        raise command.UserError(f"{directory} is the audit of another model: give the one of --model")
    return _read(Path(directory) / "bias.md")


def _scores(directory):
    config = workdir.read_config(directory)
    if "task" not in config:
        raise command.UserError(f"{directory} is no fine-tuning's workdir: give one that bert_tpu.finetune made")
    return config["task"]["name"], _json(Path(directory) / "scores.json")


def _plan(path):
    planned = _json(path)
    if not isinstance(planned, dict) or not {"topology", "chips", "kgco2e_low", "kgco2e_high"} <= planned.keys():
        raise command.UserError(f"{path} is no plan: give what tools.plan --json printed")
    return planned


def _json(path):
    try:
        return json.loads(_read(path))
    except ValueError:
        raise command.UserError(f"{path} is no JSON: make it again") from None


def _read(path):
    if not Path(path).is_file():
        raise command.UserError(f"there is no {path}: make it, or leave out its flag")
    return Path(path).read_text(encoding="utf-8")


if __name__ == "__main__":
    command.run(main)
