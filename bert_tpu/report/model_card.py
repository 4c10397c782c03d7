"""Writes the model card, the README.md of an exported model: measured values, and "not measured" for all others.

The format is the Hub's: YAML metadata, by huggingface_hub's own classes, and sections of Markdown. The metadata's key
`bert_tpu` keeps what only the export knows, so that bert-tpu card can write the card again with later results.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import huggingface_hub

from bert_tpu.report import card_sections, evidence
from bert_tpu.training import workdir

FACTS = "bert_tpu"  # the metadata's key
ONNX_HEADING = "Small files"  # the section of bert-tpu onnx


class LaterResults(NamedTuple):
    """Output of the tools that measure an exported model. A field is empty if its tool did not run."""

    bias: str  # the tables of bert-tpu bias
    scores: tuple[tuple[str, dict[str, Any]], ...]  # (task, scores.json) of each fine-tuning
    plan: dict[str, Any]  # bert-tpu plan --json
    onnx: dict[str, Any]  # quantization.json of bert-tpu onnx


NO_RESULTS = LaterResults("", (), {}, {})


class FinetunedModel(NamedTuple):
    """The model of one seed of a fine-tuning."""

    architecture: str  # the class in transformers
    use: str  # the Hub's name for its purpose
    section: dict[str, Any]  # the `model` section of a config
    labels: tuple[str, ...]
    seed: int
    reason: str  # for this seed
    scores: dict[str, dict[str, float]]  # split -> metric -> score


def pretrained(
    name: str,
    section: Mapping[str, Any],
    run: evidence.Evidence,
    facts: Mapping[str, Any],
    later: LaterResults = NO_RESULTS,
) -> str:
    """The card of a pretrained model.

    name: the model's directory or its name on the Hub
    section: the `model` section of the config
    run: the measurements of the pretraining
    facts: as `export_facts` returns them
    later: results of other tools
    """
    size = card_sections.size(section)
    limits = card_sections.LIMITS.format(positions=section["max_positions"])
    kept: dict[str, Any] = {FACTS: facts}
    tags, heads = ["bert", "masked-lm", "next-sentence-prediction"], "masked language model, next sentence prediction"
    has_pairs = facts["step"] is None or facts["step"] > run.first_nsp_step
    if not has_pairs or not any(metric.task == "NSP" for metric in run.metrics):
        tags, heads = tags[:-1], f"{heads} (not trained)"
    pipeline_tag = "fill-mask"
    if "mlm" in run.config.get("absent", ()):  # an imported encoder, whose heads are drawn at random
        pipeline_tag, tags, heads = "feature-extraction", tags[:1], "none that is trained"
    data = huggingface_hub.ModelCardData(
        library_name="transformers", pipeline_tag=pipeline_tag, model_name=f"BERT {size}",
        tags=tags, eval_results=_results(run, facts, later) or None,
        **kept,
    )  # fmt: skip
    return _card(
        data, f"BERT {size}",
        ("Model details", card_sections.details(section, heads, facts)),
        ("Uses", card_sections.USES),
        ("How to get started", card_sections.START.format(name=name)),
        ("Bias, risks and limits", "\n\n".join([limits, card_sections.bias(later.bias)])),
        ("Training data", card_sections.training_data(run)),
        ("Training procedure", card_sections.procedure(run, facts)),
        ("Speed", card_sections.speed(run)),
        ("Evaluation", card_sections.heldout(run, facts) + "\n\n" + card_sections.downstream(later.scores)),
        (ONNX_HEADING, card_sections.onnx_table(later.onnx)),
        ("Environmental impact", card_sections.impact(run, later.plan)),
        ("Citation", card_sections.CITATION + "\n\n" + card_sections.DEVLIN),
    )  # fmt: skip


def finetuned(name: str, model: FinetunedModel, run: evidence.Evidence, facts: Mapping[str, Any]) -> str:
    """The card of a fine-tuned model.

    name: the model's directory or its name on the Hub
    model: one seed's model
    run: the measurements of the fine-tuning
    facts: as `export_facts` returns them
    """
    config, section = run.config, model.section
    task, size = config["task"], card_sections.size(section)
    results = [
        _result(model.use, task["name"], metric, value, split)
        for split, scores in model.scores.items()
        for metric, value in scores.items()
    ]
    kept: dict[str, Any] = {FACTS: facts}
    data = huggingface_hub.ModelCardData(
        library_name="transformers", pipeline_tag=model.use, model_name=f"BERT {size}, {task['name']}", tags=["bert"],
        eval_results=results or None, **kept,
    )  # fmt: skip
    lines = [
        f"- task: {task['name']}, training rows sha256 {task['sha256']['train']}",
        f"- labels: {', '.join(model.labels)}",
        f"- base model: {card_sections.public(config['init_from'])}",
        f"- seed: {model.seed}, {model.reason}",
    ]
    scores = [
        f"- {split}: {', '.join(f'{k} {v:.4g}' for k, v in values.items())}" for split, values in model.scores.items()
    ]
    return _card(
        data, f"BERT {size}, {task['name']}",
        ("Model details", card_sections.details(section, model.architecture, facts) + "\n" + "\n".join(lines)),
        ("How to get started", card_sections.START_TUNED.format(name=name, cls=model.architecture)),
        ("Bias, risks and limits", card_sections.TUNED_LIMITS),
        ("Training procedure", card_sections.procedure(run, facts)),
        ("Evaluation", "\n".join(scores) or card_sections.NOT_MEASURED),
        (ONNX_HEADING, card_sections.onnx_table({})),
        ("Environmental impact", card_sections.impact(run, {})),
        ("Citation", card_sections.CITATION + "\n\n" + card_sections.DEVLIN),
    )  # fmt: skip


def with_repository(text: str, folder: str, repository: str) -> str:
    """The card `text` of an export in `folder`, whose code loads the model `repository` of the Hub."""
    for call in ('from_pretrained("{}")', 'pipeline("fill-mask", "{}")'):
        text = text.replace(call.format(folder), call.format(repository))
    return text


def with_revision(text: str, name: str, revision: str) -> str:
    """The card `text` of the model `name` on the Hub, whose code loads `revision` in place of the main branch."""
    return text.replace(f'"{name}"', f'"{name}", revision="{revision}"')


def replace_section(text: str, heading: str, body: str) -> str:
    """The card `text` with `body` as the section below `heading`; "" if the card has no such heading."""
    before, mark, rest = text.partition(f"\n## {heading}\n\n")
    following = rest.find("\n## ")
    return f"{before}{mark}{body}\n{rest[following:]}" if following >= 0 else ""


def export_facts(config: dict[str, Any], step: str, comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    """Facts about an export for the card's metadata: the run's identity, the checkpoint's step, and the comparison.

    config: config.json of the run
    step: name of the checkpoint
    comparison: fields of export.pytorch.Comparison, of our logits with PyTorch's; None if PyTorch is not installed
    """
    checked = comparison and {**comparison, "difference": float(f"{comparison['difference']:.1e}")}
    return {"run": workdir.identity(config), "step": int(step) if step.isdigit() else None, "checked": checked}


def _card(data: huggingface_hub.ModelCardData, title: str, *parts: tuple[str, str]) -> str:
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in parts)
    return f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n{body}\n"


def _results(run: evidence.Evidence, facts: Mapping[str, Any], later: LaterResults) -> list[huggingface_hub.EvalResult]:
    results = [
        _result("fill-mask", f"heldout-{n}-tokens", metric.name, line[metric.name], "heldout")
        for n, line in sorted(run.heldout.items())
        for metric in run.metrics
        if metric.name in line and facts["step"] in (None, line["step"])
    ]
    return results + [
        _result("text-classification", score.task, score.metric, score.summary["mean"], score.split)
        for score in card_sections.scores(later.scores)
    ]


def _result(use: str, name: str, metric: str, value: float, split: str) -> huggingface_hub.EvalResult:
    return huggingface_hub.EvalResult(
        task_type=use, dataset_type=name, dataset_name=name, dataset_split=split, metric_type=metric,
        metric_value=float(f"{value:.6g}"),
    )  # fmt: skip
