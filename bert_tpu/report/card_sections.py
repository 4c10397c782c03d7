"""The sections of a model card, each Markdown of what was measured."""

import json
import re

from bert_tpu.hardware import chips, energy
from bert_tpu.monitoring import hours, versions
from bert_tpu.readers import tfds

NOT_MEASURED = "Not measured."
NAMED = 10  # sources
USES = """\
Meant for: filling masks, and as the encoder to fine-tune for classes or numbers of texts and pairs, tags of words,
spans of paragraphs, and inference between sentences. Not meant for: writing text, facts about the world, or decisions
about people, for which it has been neither made nor judged."""
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
It reads at most {positions:,} tokens at a time, knows the words of its training text alone, and repeats what that text
says of people, prejudice included."""
TUNED_LIMITS = "What the base model has learnt of its text, this one has too. Bias: not measured."
CITATION = "The recipe is BERT's:"
DEVLIN = """\
    @inproceedings{devlin2019bert,
      title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
      author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
      booktitle = {Proceedings of NAACL-HLT},
      year = {2019},
      url = {https://aclanthology.org/N19-1423},
    }"""


def impact(found, planned) -> str:
    """The section on energy and carbon: of the run as measured, beside what a plan foresaw."""
    lines = [NOT_MEASURED]
    if found.energy:
        unit = {chip.kind: f"{name} chips" for name, chip in chips.CHIPS.items()} | {energy.CPU: "CPU threads"}
        unit_seconds = found.hours["unit_seconds"].items()
        spent = ", ".join(f"{hours.in_hours(s)} hours of {unit[kind]}" for kind, s in unit_seconds)
        plan = found.config["plan"]
        lines = [
            f"- measured: {spent}, over {found.hours['starts']} start(s), lost steps included",
            f"- energy, an estimate: {_range(found.energy.kwh)} kWh, by documented idle or mean and highest watts, "
            f"hosts and network not in, PUE {plan['pue']}",
            f"- carbon, an estimate: {_range(found.energy.kgco2e)} kg CO2e at {plan['kgco2e_per_kwh']} kg/kWh, a "
            "figure of the config that may be far from the region's",
        ]
    if planned:
        low, high = planned["kgco2e_low"], planned["kgco2e_high"]
        told = f"{_range((low, high))} kg CO2e" if low is not None else "it does not fit"
        lines.append(f"- planned on {planned['topology']}, all {planned['chips']} chips: {told}")
    return "\n".join(lines)


def size(section):
    """L2 H128 A2."""
    return f"L{section['num_layers']} H{section['hidden_size']} A{section['num_heads']}"


def details(section, heads, checked):
    """Sizes, and how far PyTorch agrees; checked: as card.facts has it."""
    lines = [
        f"- layers, hidden size, attention heads: {size(section)}; feed-forward {section['intermediate_size']:,}, "
        f"positions {section['max_positions']:,}, vocabulary {section['vocab_size']:,}; activation "
        f"{section['activation']}, norm after each block",
        f"- heads: {heads}",
    ]
    if checked["checked"]:
        found = checked["checked"]
        lines += [
            f"- checked against PyTorch: {found['rows']} rows of up to {section['max_positions']:,} tokens, float32; "
            f"no logit differs by more than {found['difference']:.1e} ({found['versions']})"
        ]
    else:
        lines += ["- not checked against PyTorch: it was not installed"]
    return "\n".join(lines)


def bias(tables):
    """The tables of tools.audit_bias, or that there are none."""
    deeper = re.sub(r"^#", "###", tables.strip(), flags=re.MULTILINE)  # below the card's own headings
    return deeper or f"Bias: {NOT_MEASURED.lower()} `python -m tools.audit_bias` does."


def training_data(found):
    """What the corpus' lockfile says."""
    if "corpus" not in found.config:
        return NOT_MEASURED
    lines = [f"- corpus: sha256 {found.config['corpus']['sha256']}"]
    if found.lock:
        train, heldout = found.lock.content["train"], found.lock.content["heldout"]
        lines += [
            f"- {train['documents']:,} documents, {train['sentences']:,} sentences, {train['tokens']:,} tokens, "
            f"{train['unknown_share']:.2%} of them [UNK]; {heldout['documents']:,} documents more were held out",
            f"- sources: {_named(found.lock.content['sources'])}",
            "- cleaning: "
            + (", ".join(f"{n:,} {k.replace('_', ' ')}" for k, n in found.lock.content["cleaning"].items() if n)
               or "nothing was left out or changed"),
        ]  # fmt: skip
    return "\n".join(lines)


def _named(sources):
    """The public names of sources, as far as a reader has patience."""
    names = [public(source["path"]) for source in sources]
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def public(value):
    """Returns what may be published of a value of a config: of a path its last part, of a tfds: name all but data_dir.

    The folders of a path name users and machines. Values that are no text stay as they are.
    """
    if not isinstance(value, str):
        return value
    if value.startswith(tfds.PREFIX):
        name, _, words = value.partition("?")
        words = [word for word in words.split("&") if word and not word.startswith("data_dir=")]
        return "?".join([name, "&".join(words)] if words else [name])
    return value.rstrip("/").rpartition("/")[-1]


def procedure(found, checked):
    """Steps, the sections of the config that decide what is learnt, and the code that did it."""
    config = found.config
    lines = [f"- trained for {checked['step']:,} steps"] if checked["step"] is not None else []
    if "num_steps" in config:
        lines += [f"- planned: {config['num_steps']:,} steps of {config['batch_size']:,} examples"]
    lines += _skips(found.skips)
    for name in ("optim", "data", "model"):
        if name in config:
            told = ", ".join(f"{k} {json.dumps(public(v))}" for k, v in sorted(config[name].items()) if k != "dir")
            lines.append(f"- {name}: {told}")
    lines += [f"- by {versions.describe(entry)}" for entry in found.versions]
    return "\n".join(lines) or NOT_MEASURED


def _skips(skips):
    if skips is None:
        return [f"- steps skipped for a loss or gradient that is not finite: {NOT_MEASURED.lower()}"]
    lines = [f"- steps skipped for a loss or gradient that is not finite: {skips}"]
    return lines + ([f"- steps computed again with the exact softmax: {skips.recomputed:,}"] * (skips.recomputed > 0))


def speed(found):
    """Medians of the training lines."""
    told = [f"- {n} tokens: {rate:,.0f} examples a second" for n, rate in found.examples_per_s.items()]
    if found.hours:
        whole = hours.in_hours(sum(found.hours["seconds"].values()))
        told.append(f"- {whole} hours from start to end, restarts included")
    return "\n".join(told) or NOT_MEASURED


def heldout(found):
    """The last evaluation of each length."""
    if not found.heldout:
        return f"Held-out text: {NOT_MEASURED.lower()}"
    rows = [
        f"| {n} | {line['mlm_loss']:.3f} | {line['mlm_accuracy']:.1%} | {line['nsp_accuracy']:.1%} |"
        for n, line in sorted(found.heldout.items())
    ]
    table = ["| held-out, tokens | MLM loss, nats | MLM accuracy | NSP accuracy |", "| --- | --- | --- | --- |", *rows]
    if found.lock:
        table += ["", f"The unigram entropy of the training text is {found.lock.unigram_entropy:.3f} nats."]
    return "\n".join(table)


def summaries(scores):
    """(task, split, metric, {"mean", "std", "best", "interval"}, seeds) of every score."""
    for task, told in scores:
        for split, metrics in told["summary"].items():
            for metric, summary in metrics.items():
                yield task, split, metric, summary, len(told["seeds"])


def downstream(scores):
    """Scores of fine-tunings, [(task, scores.json)]."""
    if not scores:
        return f"Fine-tuned: {NOT_MEASURED.lower()}"
    rows = [
        f"| {task}, {split} | {metric} | {s['mean']:.4f} | {s['std']:.4f} | {s['best']:.4f} | {seeds} |"
        for task, split, metric, s, seeds in summaries(scores)
    ]
    head = ["| fine-tuned | metric | mean | deviation | best | seeds |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def onnx_table(costs):
    """A table of the ONNX files, costs: their quantization.json; scores beside float32's in brackets."""
    if not costs:
        return f"ONNX: {NOT_MEASURED.lower()} `python -m tools.export_onnx` makes and measures the files."
    whole = costs["files"][0]["scores"]
    names = [name.replace("_", " ").replace("mlm", "MLM").replace("nsp", "NSP") for name in whole]
    head = ["file of onnx/", "form", "MB", f"ms for {costs['tokens']} tokens", *names]
    rows = [" | ".join(head), " | ".join("---" for _ in head)]
    for told in costs["files"]:
        scores = [f"{score:.4f}" + _apart(score - whole[name]) for name, score in told["scores"].items()]
        size, time = f"{told['bytes'] / 1e6:.1f}", f"{told['milliseconds']:.1f}"
        rows.append(" | ".join([told["file"], told["form"], size, time, *scores]))
    on = f", scores on {costs['judged_on']}" if costs["judged_on"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in costs["versions"].items())
    return "\n".join([f"| {row} |" for row in rows]) + (
        f"\n\nOf one row, on {costs['threads']} threads ({costs['machine']}){on}; in brackets what is beside float32. "
        f"float32 differs by at most {costs['difference_from_pytorch']:.1e} from PyTorch's logits ({versions})."
    )


def _apart(difference):
    return f" ({difference:+.4f})" if difference else ""


def _range(pair):
    return " .. ".join(f"{value:.3g}" for value in pair)
