"""An audit's tables: one for each benchmark, a column for each model."""

from collections.abc import Iterator
from typing import Any

from bert_tpu.bias import templates, winogender

LEANING = 6  # occupations named on each side


def markdown(audit: dict[str, Any]) -> str:
    """The audit, as bias.json holds it, for people."""
    models, interval = audit["models"], audit["interval"]
    parts = [
        "# Bias audit",
        f"{audit['package']['name']} {audit['package']['version']}. In brackets: {interval['percent']}% intervals of "
        f"{interval['draws']:,} draws of the examples with replacement: how much a score owes to the examples. A score "
        "near its neutral value does not prove a model free of bias.",
        _table(["model", "L/H/A", "vocabulary", "parameters", "SHA-256 of the weights"], map(_facts, models)),
    ]
    for name, told in SECTIONS.items():
        if name in audit["skipped"]:
            parts.append(f"{TITLES[name]}: skipped, {audit['skipped'][name]}.")
        elif name in models[0]:
            parts += [f"## {TITLES[name]}", *told([(model["name"], model[name]) for model in models])]
    hashes = [(file, digest) for files in audit["data"].values() for file, digest in files.items()]
    if hashes:
        parts += ["## Data", _table(["file", "SHA-256"], hashes)]
    return "\n\n".join(parts) + "\n"


def _facts(model):
    size = f"{model['layers']}/{model['hidden_size']}/{model['heads']}"
    return model["name"], size, f"{model['vocab_size']:,}", f"{model['parameters']:,}", model["weights_sha256"][:16]


def _crows(results) -> Iterator[str]:
    yield (
        "Pairs of which the more stereotyping sentence is the likelier one, per cent; 50 is no preference. The metric "
        "of Nangia et al. 2020 (arXiv:2010.00133)."
    )
    rows = [("all pairs", "metric"), ("stereotype", "stereotype"), ("antistereotype", "antistereotype")]
    told = [_row(label, [result[key] for _, result in results]) for label, key in rows]
    for kind in results[0][1]["by_type"]:
        told.append(_row(kind, [result["by_type"][kind] for _, result in results]))
    told.append(["neutral: equal scores", "", *(f"{result['neutral']:,} pairs" for _, result in results)])
    yield _table(["", "pairs", *(name for name, _ in results)], told)


def _stereoset(results) -> Iterator[str]:
    yield (
        "Of words in a sentence: language-model score (100: what makes sense always wins), stereotype score (50: no "
        "preference) and ICAT, made of both (100 is ideal). The evaluation of Nadeem et al. 2021 (arXiv:2004.09456)."
    )
    told = []
    for domain in (None, *results[0][1]["by_domain"]):
        each = [result["by_domain"][domain] if domain else result["overall"] for _, result in results]
        for key, label in (("language_model", "language model"), ("stereotype", "stereotype"), ("icat", "ICAT")):
            told.append(_row(f"{domain or 'overall'}, {label}", [scores[key] for scores in each]))
    yield _table(["", "examples", *(name for name, _ in results)], told)


def _winogender(results) -> Iterator[str]:
    yield (
        "Log odds of the female against the male pronoun where it is masked, in nats: above 0 a woman is expected; and "
        "their correlation, by occupation, with its share of women (US Bureau of Labor Statistics). The sentences are "
        "those of Rudinger et al. 2018 (arXiv:1804.09301)."
    )
    rows = [
        ("log odds, all sentences", "log_odds"),
        ("log odds, pronoun of the occupation", "of_occupation"),
        ("log odds, pronoun of the other person", "of_participant"),
        ("correlation with the share of women", "correlation"),
    ]
    told = [_row(label, [result[key] for _, result in results], digits=2) for label, key in rows]
    for gender in winogender.GENDERS:
        chances = (result["probability"].get(gender) for _, result in results)
        told.append([f"probability, {gender}", "", *("-" if p is None else f"{p:.3g}" for p in chances)])
    told.append(["sentences left out", "", *(f"{result['left_out']:,}" for _, result in results)])
    yield _table(["", "occupations", *(name for name, _ in results)], told)


def _templates(results) -> Iterator[str]:
    yield (
        "How far an occupation's log-probability differs between a woman's sentence and a man's, in nats; of "
        f"{len(templates.OCCUPATIONS)} occupations those that are one piece of the vocabulary."
    )
    told = [_row("mean absolute difference", [result["difference"] for _, result in results], digits=2)]
    yield _table(["", "occupations", *(name for name, _ in results)], told)
    for name, result in results:
        ranked = sorted(result["by_occupation"].items(), key=lambda each: each[1])
        sides = {"men": ranked[:LEANING], "women": ranked[: -LEANING - 1 : -1]}
        for side, each in sides.items():
            leaning = [f"{word} {value:+.2f}" for word, value in each if (value > 0) == (side == "women")]
            yield f"{name}, most to {side}: {', '.join(leaning) or 'none'}."
    for number, pair in enumerate(results[0][1]["top"]):
        heads = [f"{name}: {text}" for name, _ in results for text in pair["texts"]]
        columns = [result["top"][number][side] for _, result in results for side in ("men", "women")]
        yield _table(heads, zip(*([f"{piece} {p:.3f}" for piece, p in column] for column in columns), strict=True))


TITLES = {"crows": "CrowS-Pairs", "stereoset": "StereoSet", "winogender": "Winogender", "templates": "Occupations"}
SECTIONS = {"crows": _crows, "stereoset": _stereoset, "winogender": _winogender, "templates": _templates}


def _row(label, estimates, digits=1):
    examples = sorted({f"{each['examples']:,}" for each in estimates if each})
    return [label, " / ".join(examples), *(_told(each, digits) for each in estimates)]


def _told(estimate, digits):
    if estimate is None:
        return "-"
    value, low, high = (f"{estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} .. {high})"


def _table(heads, rows) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
