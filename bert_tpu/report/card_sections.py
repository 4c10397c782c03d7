"""The sections of a model card as Markdown, from a run's measurements."""

from collections.abc import Iterable, Iterator, Mapping
import json
import re
from typing import Any, NamedTuple

from bert_tpu.core import batch_ramp, numerals
from bert_tpu.corpus import lockfile
from bert_tpu.hardware import chips, energy, gpus
from bert_tpu.monitoring import hours, versions
from bert_tpu.readers import tfds
from bert_tpu.report import evidence

NOT_MEASURED = "Not measured."
MOST_SOURCES = 10  # that a card names
USES = """\
Intended for: filling masks, and as the encoder to fine-tune for classification or regression of texts and pairs,
tagging of words, answers in paragraphs, and inference between sentences. Not intended for: writing text, facts about
the world, or decisions about people; the model was neither trained nor evaluated for these."""
START = """\
```python
from transformers import AutoTokenizer, BertForPreTraining, pipeline

model = BertForPreTraining.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
print(pipeline("fill-mask", "{name}")("text with [MASK]"))
```"""
START_TUNED = """\
```python
from transformers import AutoTokenizer, {cls}

model = {cls}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```"""
LIMITS = """\
The model reads at most {positions:,} tokens at a time, knows only the words of its training text, and repeats what
that text says about people, prejudice included."""
TUNED_LIMITS = "This model keeps what the base model has learnt from its text, prejudice included. Bias: not measured."
CITATION = "The training recipe is BERT's:"
DEVLIN = """\
    @inproceedings{devlin2019bert,
      title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
      author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
      booktitle = {Proceedings of NAACL-HLT},
      year = {2019},
      url = {https://aclanthology.org/N19-1423},
    }"""


class Score(NamedTuple):
    """A score of fine-tunings of the model."""

    task: str
    split: str
    metric: str
    summary: dict[str, Any]  # over the seeds: "mean", "std", "best" and "interval"
    seeds: int


def impact(run: evidence.Evidence, plan: Mapping[str, Any]) -> str:
    """The section on energy and carbon: as measured, and as planned. plan: the JSON of bert-tpu plan; {} for none."""
    lines = [NOT_MEASURED]
    if run.energy:
        unit = {chip.kind: f"{name} chips" for name, chip in chips.CHIPS.items()} | {energy.CPU: "CPU threads"}
        unit |= {kind: f"{kind} GPUs" for kind in gpus.GPUS}
        unit_seconds = run.hours["unit_seconds"].items()
        spent = ", ".join(f"{hours.in_hours(s)} hours of {unit[kind]}" for kind, s in unit_seconds)
        prices = run.config["plan"]
        lines = [
            f"- measured: {spent}, over {run.hours['starts']} start(s), lost steps included",
            f"- energy, an estimate: {_range(run.energy.kwh)} kWh, from documented watts (idle, mean or half "
            f"the limit .. highest) and PUE {prices['pue']}, without hosts and network",
            f"- carbon, an estimate: {_range(run.energy.kgco2e)} kg CO2e at {prices['kgco2e_per_kwh']} kg/kWh, the "
            "config's figure, which may be far from the region's",
        ]
    if plan:
        low, high = plan["kgco2e_low"], plan["kgco2e_high"]
        unknown = "not known, since the step does not fit in memory or the chips' watts are not published"
        carbon = f"{_range((low, high))} kg CO2e" if low is not None else unknown
        lines.append(f"- planned on {plan['topology']}, all {plan['chips']} chips: {carbon}")
    return "\n".join(lines)


def size(section: Mapping[str, Any]) -> str:
    """The encoder's size, such as L2 H128 A2. section: the `model` section of a config."""
    return f"L{section['num_layers']} H{section['hidden_size']} A{section['num_heads']}"


def details(section: Mapping[str, Any], heads: str, facts: Mapping[str, Any]) -> str:
    """The sizes, and the difference from PyTorch.

    section: the `model` section of a config
    heads: their names
    facts: as model_card.export_facts returns them
    """
    lines = [
        f"- layers, hidden size, attention heads: {size(section)}; feed-forward {section['intermediate_size']:,}, "
        f"positions {section['max_positions']:,}, vocabulary {section['vocab_size']:,}; activation "
        f"{section['activation']}, norm after each block",
        f"- heads: {heads}",
    ]
    if facts["checked"]:
        comparison = facts["checked"]
        rows = f"{comparison['rows']} rows of up to {section['max_positions']:,} tokens"
        lines += [
            f"- checked against PyTorch: {rows}, float32; no logit differs by more than "
            f"{comparison['difference']:.1e} ({comparison['versions']})"
        ]
    else:
        lines += ["- not checked against PyTorch, which was not installed"]
    return "\n".join(lines)


def bias(tables: str) -> str:
    """The tables of bert-tpu bias; if they are empty, the command that writes them."""
    deeper = re.sub(r"^#", "###", tables.strip(), flags=re.MULTILINE)  # below the card's own headings
    return deeper or f"Bias: {NOT_MEASURED.lower()} `bert-tpu bias` measures it."


def training_data(run: evidence.Evidence) -> str:
    """The corpus, as its lockfile describes it."""
    if "corpus" not in run.config:
        return NOT_MEASURED
    lines = [f"- corpus: sha256 {run.config['corpus']['sha256']}"]
    if run.lock:
        content = run.lock.content
        train, heldout = content["train"], content["heldout"]
        cleaning = lockfile.cleaning_summary(content)
        lines += [
            f"- {train['documents']:,} documents, {train['sentences']:,} sentences, {train['tokens']:,} tokens, "
            f"{train['unknown_share']:.2%} of them [UNK]",
            f"- held out for evaluation: {numerals.count(heldout['documents'], 'document')}",
            f"- sources: {_source_names(content['sources'])}",
            *(f"- data set: {commit}" for commit in content.get("commits", ())),  # on the Hub
            f"- cleaning: {cleaning or 'nothing was left out or changed'}",
        ]
    return "\n".join(lines)


def _source_names(sources: list[dict[str, Any]]) -> str:
    """The public names of the first MOST_SOURCES sources, and the number of the others."""
    names = [public(source["path"]) for source in sources]
    more = f" and {len(names) - MOST_SOURCES:,} more" if len(names) > MOST_SOURCES else ""
    return ", ".join(names[:MOST_SOURCES]) + more


def public(value: Any) -> Any:
    """The part of a config's value that may be published: the last part of a path, a tfds: name without data_dir.

    The folders of a path name users and machines. Values that are not text are returned unchanged.
    """
    if not isinstance(value, str):
        return value
    if value.startswith(tfds.PREFIX):
        name, _, query = value.partition("?")
        words = [word for word in query.split("&") if word and not word.startswith("data_dir=")]
        return "?".join([name, "&".join(words)] if words else [name])
    return value.rstrip("/").rpartition("/")[-1]


def procedure(run: evidence.Evidence, facts: Mapping[str, Any]) -> str:
    """The steps, the sections of the config that decide what is learnt, and the versions of the code.

    facts: as model_card.export_facts returns them
    """
    config = run.config
    lines = [f"- trained for {numerals.count(facts['step'], 'step')}"] if facts["step"] is not None else []
    if "num_steps" in config:
        lines += [f"- planned: {numerals.count(config['num_steps'], 'step')} of {batch_ramp.describe(config)} examples"]
    lines += [f"- teacher: {text}, sha256 {config['distill']['sha256']}"] if (text := teacher(config)) else []
    skips = NOT_MEASURED.lower() if run.skips is None else str(run.skips)
    lines.append(f"- steps skipped for a loss or gradient that is not finite: {skips}")
    for name in ("optim", "data", "model"):
        if name in config:
            values = ", ".join(f"{k} {json.dumps(public(v))}" for k, v in sorted(config[name].items()) if k != "dir")
            lines.append(f"- {name}: {values}")
    lines += [f"- trained by {versions.describe(entry)}" for entry in run.versions]
    return "\n".join(lines) or NOT_MEASURED


def teacher(config: Mapping[str, Any]) -> str:
    """The name and size of the teacher in a run's config, and how much of the loss is its part; "" without one."""
    section = config.get("distill", {})
    if "sha256" not in section:
        return ""
    values = [f"{key} {section[key]:g}" for key in ("weight", "temperature", "relations") if section.get(key)]
    return f"{public(section['teacher'])} ({size(section['teacher_sizes'])}), {', '.join(values)}"


def speed(run: evidence.Evidence) -> str:
    """The median speed at each sequence length, and the hours."""
    lines = [f"- {n} tokens: {rate:,.0f} examples a second" for n, rate in run.examples_per_s.items()]
    if run.hours:
        whole = hours.in_hours(sum(run.hours["seconds"].values()))
        lines.append(f"- {whole} hours from start to end, restarts included")
    return "\n".join(lines) or NOT_MEASURED


def heldout(run: evidence.Evidence, facts: Mapping[str, Any]) -> str:
    """A table of the last evaluation at each sequence length, with its step if that is not the model's.

    facts: as model_card.export_facts returns them
    """
    if not run.heldout:
        return f"Held-out text: {NOT_MEASURED.lower()}"
    rows = [["held-out text, tokens", *(metric.column for metric in run.metrics)], ["---"] * (1 + len(run.metrics))]
    for n, line in sorted(run.heldout.items()):
        rows.append(
            [f"{n}", *(metric.form.format(line[metric.name]) if metric.name in line else "" for metric in run.metrics)]
        )
    table = [f"| {' | '.join(row)} |" for row in rows]
    earlier = {line["step"] for line in run.heldout.values()} - {facts["step"]}
    if facts["step"] is not None and earlier:
        table += ["", f"Evaluated at step {', '.join(f'{step:,}' for step in sorted(earlier))}."]
    if run.lock:
        table += ["", f"The unigram entropy of the training text is {run.lock.unigram_entropy:.3f} nats."]
    return "\n".join(table)


def scores(tunings: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Score]:
    """Yields every score. tunings: (task, scores.json) of each fine-tuning."""
    for task, content in tunings:
        for split, metrics in content["summary"].items():
            for metric, summary in metrics.items():
                yield Score(task, split, metric, summary, len(content["seeds"]))


def downstream(tunings: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """A table of the scores of fine-tunings. tunings: (task, scores.json) of each."""
    if not tunings:
        return f"Fine-tuned: {NOT_MEASURED.lower()}"
    rows = [
        f"| {task}, {split} | {metric} | {s['mean']:.4f} | {s['std']:.4f} | {s['best']:.4f} | {seeds} |"
        for task, split, metric, s, seeds in scores(tunings)
    ]
    head = ["| fine-tuned | metric | mean | deviation | best | seeds |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def onnx_table(costs: Mapping[str, Any]) -> str:
    """A table of the ONNX files, with the difference of each score from float32's in brackets.

    costs: quantization.json of bert-tpu onnx; {} if it did not run
    """
    if not costs:
        return f"ONNX: {NOT_MEASURED.lower()} `bert-tpu onnx` writes and measures the files."
    float32_scores = costs["files"][0]["scores"]
    names = [name.replace("_", " ").replace("mlm", "MLM").replace("nsp", "NSP") for name in float32_scores]
    head = ["file of onnx/", "form", "MB", f"ms for {costs['tokens']} tokens", *names]
    rows = [" | ".join(head), " | ".join("---" for _ in head)]
    for file in costs["files"]:
        cells = [f"{score:.4f}" + _difference(score - float32_scores[name]) for name, score in file["scores"].items()]
        megabytes, time = f"{file['bytes'] / 1e6:.1f}", f"{file['milliseconds']:.1f}"
        rows.append(" | ".join([file["file"], file["form"], megabytes, time, *cells]))
    judged_on = f"; scores on {costs['judged_on']}" if costs["judged_on"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in costs["versions"].items())
    return "\n".join([f"| {row} |" for row in rows]) + (
        f"\n\nTimes of one row on {costs['threads']} threads ({costs['machine']}){judged_on}; in brackets the "
        f"difference from float32. The float32 logits differ from PyTorch's by at most "
        f"{costs['difference_from_pytorch']:.1e} ({versions})."
    )


def _difference(difference: float) -> str:
    return f" ({difference:+.4f})" if difference else ""


def _range(pair: tuple[float, float]) -> str:
    return " .. ".join(f"{value:.3g}" for value in pair)
