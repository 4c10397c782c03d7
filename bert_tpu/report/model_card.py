"""The README.md of an exported model as a model card: what was measured, and "not measured" where nothing was.

The form is the Hub's: YAML metadata, by huggingface_hub's own classes, and sections of Markdown. The metadata's key
`bert_tpu` keeps what only the export knows, so that tools.model_card can write the card again with later findings.
"""

from typing import Any, NamedTuple

import huggingface_hub

from bert_tpu.report import card_sections
from bert_tpu.training import workdir

FACTS = "bert_tpu"  # the metadata's key
ONNX_HEADING = "Small files"  # the section of tools.export_onnx


class Findings(NamedTuple):
    """What was found after the export, as the tools that found it wrote it; empty where they did not run."""

    bias: str  # the tables of tools.audit_bias
    scores: tuple[tuple[str, dict], ...]  # (task, its scores.json)
    planned: dict  # tools.plan --json
    small: dict  # quantization.json of tools.export_onnx


NO_FINDINGS = Findings("", (), {}, {})


def pretrained(name, section, found, checked, findings=NO_FINDINGS) -> str:
    """Of the model `name`; section: its sizes. found: evidence.Evidence. checked: what `facts` returned."""
    size = card_sections.size(section)
    limits = card_sections.LIMITS.format(positions=section["max_positions"])
    data = huggingface_hub.ModelCardData(
        library_name="transformers", pipeline_tag="fill-mask", model_name=f"BERT {size}",
        tags=["bert", "masked-lm", "next-sentence-prediction"], eval_results=_results(found, findings) or None,
        **{FACTS: checked},
    )  # fmt: skip
    return _written(
        data, f"BERT {size}",
        ("Model details", card_sections.details(section, "masked language model, next sentence prediction", checked)),
        ("Uses", card_sections.USES),
        ("How to get started", card_sections.START.format(name=name)),
        ("Bias, risks and limits", "\n\n".join([limits, card_sections.bias(findings.bias)])),
        ("Training data", card_sections.training_data(found)),
        ("Training procedure", card_sections.procedure(found, checked)),
        ("Speed", card_sections.speed(found)),
        ("Evaluation", card_sections.heldout(found) + "\n\n" + card_sections.downstream(findings.scores)),
        (ONNX_HEADING, card_sections.onnx_table(findings.small)),
        ("Environmental impact", card_sections.impact(found, findings.planned)),
        ("Citation", card_sections.CITATION + "\n\n" + card_sections.DEVLIN),
    )  # fmt: skip


def finetuned(name, made, model, found, checked) -> str:
    """Of the model `name`: `model`, a Finetuned, as the class `made`."""
    config, section = found.config, model.section
    task, size = config["task"], card_sections.size(section)
    results = [
        _result(made.use, task["name"], metric, value, split)
        for split, scores in model.scores.items()
        for metric, value in scores.items()
    ]
    data = huggingface_hub.ModelCardData(
        library_name="transformers", pipeline_tag=made.use, model_name=f"BERT {size}, {task['name']}", tags=["bert"],
        eval_results=results or None, **{FACTS: checked},
    )  # fmt: skip
    facts = [
        f"- task: {task['name']}, training rows sha256 {task['sha256']['train']}",
        f"- labels: {', '.join(model.labels)}",
        f"- base model: {card_sections.public(config['init_from'])}",
        f"- seed: {model.seed}, {model.reason}",
    ]
    judged = [
        f"- {split}: {', '.join(f'{k} {v:.4g}' for k, v in each.items())}" for split, each in model.scores.items()
    ]
    return _written(
        data, f"BERT {size}, {task['name']}",
        ("Model details", card_sections.details(section, made.name, checked) + "\n" + "\n".join(facts)),
        ("How to get started", card_sections.START_TUNED.format(name=name, cls=made.name)),
        ("Bias, risks and limits", card_sections.TUNED_LIMITS),
        ("Training procedure", card_sections.procedure(found, checked)),
        ("Evaluation", "\n".join(judged) or card_sections.NOT_MEASURED),
        (ONNX_HEADING, card_sections.onnx_table({})),
        ("Environmental impact", card_sections.impact(found, {})),
        ("Citation", card_sections.CITATION + "\n\n" + card_sections.DEVLIN),
    )  # fmt: skip


def replace_section(text, heading, body) -> str:
    """The card `text` with `body` below its `heading`; "" where it has no such heading."""
    before, mark, rest = text.partition(f"\n## {heading}\n\n")
    following = rest.find("\n## ")
    return f"{before}{mark}{body}\n{rest[following:]}" if following >= 0 else ""


def export_facts(config, step, checked) -> dict[str, Any]:
    """What the metadata keeps of an export: which run's it is, the checkpoint's step, and an export.Checked or None."""
    agrees = checked and {**checked._asdict(), "difference": float(f"{checked.difference:.1e}")}
    return {"run": workdir.identity(config), "step": int(step) if step.isdigit() else None, "checked": agrees}


def _written(data, title, *parts):
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in parts)
    return f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n{body}\n"


def _results(found, findings):
    results = [
        _result("fill-mask", f"heldout-{n}-tokens", metric, line[metric], "heldout")
        for n, line in sorted(found.heldout.items())
        for metric in ("mlm_loss", "mlm_accuracy", "nsp_accuracy")
    ]
    return results + [
        _result("text-classification", task, metric, summary["mean"], split)
        for task, split, metric, summary, _ in card_sections.summaries(findings.scores)
    ]


def _result(use, name, metric, value, split):
    return huggingface_hub.EvalResult(
        task_type=use, dataset_type=name, dataset_name=name, dataset_split=split, metric_type=metric,
        metric_value=float(f"{value:.6g}"),
    )  # fmt: skip
