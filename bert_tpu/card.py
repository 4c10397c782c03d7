"""The README.md of an exported model: what is known of it, and how transformers loads it."""

PRETRAINED = """\
---
library_name: transformers
pipeline_tag: fill-mask
---
# BERT {size}

{facts}

    from transformers import AutoTokenizer, BertForPreTraining, pipeline

    model = BertForPreTraining.from_pretrained("{name}")
    tokenizer = AutoTokenizer.from_pretrained("{name}")
    pipeline("fill-mask", "{name}")("text with [MASK]")
"""
FINETUNED = """\
---
library_name: transformers
pipeline_tag: {use}
---
# BERT {size}, {task}

{facts}

    from transformers import AutoTokenizer, {cls}

    model = {cls}.from_pretrained("{name}")
    tokenizer = AutoTokenizer.from_pretrained("{name}")
"""


def pretrained(name, section, found, config, checked) -> str:
    """Of the model `name`, which is that of the checkpoint `found` in a workdir of `config`."""
    facts = [
        *_sizes(section),
        "- heads: masked language model, next sentence prediction",
        *_steps(found),
    ]
    if "corpus" in config:
        facts += [f"- corpus: sha256 {config['corpus']['sha256']}"]
    return PRETRAINED.format(name=name, size=_size(section), facts="\n".join([*facts, _agreement(section, checked)]))


def finetuned(name, made, model, config, checked) -> str:
    """Of the model `name`: `model`, a Finetuned, as the class `made`."""
    task, section = config["task"], model.section
    facts = [
        *_sizes(section),
        f"- task: {task['name']}, training rows sha256 {task['train_sha256']}",
        f"- labels: {', '.join(model.labels)}",
        f"- base model: {config['init_from']}",
        *_steps(model.checkpoint),
        f"- seed: {model.seed}, {model.reason}",
    ]
    for split, scores in model.scores.items():
        facts += [f"- {split}: {', '.join(f'{name} {score:.4g}' for name, score in scores.items())}"]
    facts = "\n".join([*facts, _agreement(section, checked)])
    return FINETUNED.format(name=name, use=made.use, cls=made.name, size=_size(section), task=task["name"], facts=facts)


def _size(section):
    return f"L{section['num_layers']} H{section['hidden_size']} A{section['num_heads']}"


def _sizes(section):
    return [
        f"- layers, hidden size, attention heads: {_size(section)}; feed-forward {section['intermediate_size']:,}, "
        f"positions {section['max_positions']:,}, vocabulary {section['vocab_size']:,}"
    ]


def _steps(found):
    return [f"- trained for {int(found.name):,} steps"] if found.name.isdigit() else []


def _agreement(section, checked):
    if not checked:
        return "- not checked against PyTorch: it was not installed"
    return (
        f"- checked against PyTorch: {checked.rows} rows of up to {section['max_positions']:,} tokens, float32; "
        f"no logit differs by more than {checked.difference:.1e} ({checked.versions})"
    )
