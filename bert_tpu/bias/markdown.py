"""Writes an audit as Markdown: a table for each benchmark, a column for each model."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bert_tpu.bias import templates, winogender

LEANING = 6  # occupations named on each side
Results = list[tuple[str, dict[str, Any]]]  # (a model's name, its Result of a task as JSON)


def markdown(audit: dict[str, Any]) -> str:
    """Returns the audit as a Markdown page. audit: the content of bias.json."""
    models, interval = audit["models"], audit["interval"]
    parts = [
        "# Bias audit",
        f"{audit['package']['name']} {audit['package']['version']}. In brackets: {interval['percent']}% intervals of "
        f"{interval['draws']:,} draws of the examples with replacement, so how much a score depends on them. A score "
        "near its neutral value does not prove a model free of bias.",
        _table(["model", "L/H/A", "vocabulary", "parameters", "SHA-256 of the weights"], map(_facts, models)),
    ]
    for name, section in SECTIONS.items():
        if name in audit["skipped"]:
            parts.append(f"{TITLES[name]}: skipped, {audit['skipped'][name]}.")
        elif name in models[0]:
            parts.append(f"## {TITLES[name]}")
            if name in audit["remarks"]:
                parts.append(audit["remarks"][name])
            parts += section([(model["name"], model[name]) for model in models])
    hashes = [(file, digest) for files in audit["data"].values() for file, digest in files.items()]
    if hashes:
        parts += ["## Data", _table(["file", "SHA-256"], hashes)]
    return "\n\n".join(parts) + "\n"


def _facts(model: dict[str, Any]) -> tuple[str, ...]:
    size = f"{model['layers']}/{model['hidden_size']}/{model['heads']}"
    return model["name"], size, f"{model['vocab_size']:,}", f"{model['parameters']:,}", model["weights_sha256"][:16]


def _crows(results: Results) -> Iterator[str]:
    yield (
        "Pairs whose more stereotyping sentence is the likelier one, in per cent; 50 means no preference. The metric "
        "of Nangia et al. 2020 (arXiv:2010.00133)."
    )
    rows = [("all pairs", "metric"), ("stereotype", "stereotype"), ("antistereotype", "antistereotype")]
    lines = [_row(label, [result[key] for _, result in results]) for label, key in rows]
    for kind in results[0][1]["by_type"]:
        lines.append(_row(kind, [result["by_type"][kind] for _, result in results]))
    lines.append(["neutral: equal scores", "", *(f"{result['neutral']:,} pairs" for _, result in results)])
    yield _table(["", "pairs", *(name for name, _ in results)], lines)


def _stereoset(results: Results) -> Iterator[str]:
    yield (
        "Words in a sentence: language-model score (100: the word that makes sense always wins), stereotype score (50: "
        "no preference) and ICAT, computed from both (100 is ideal). The evaluation of Nadeem et al. 2021 "
        "(arXiv:2004.09456)."
    )
    lines = []
    for domain in (None, *results[0][1]["by_domain"]):
        by_model = [result["by_domain"][domain] if domain else result["overall"] for _, result in results]
        for key, label in (("language_model", "language model"), ("stereotype", "stereotype"), ("icat", "ICAT")):
            lines.append(_row(f"{domain or 'overall'}, {label}", [scores[key] for scores in by_model]))
    yield _table(["", "examples", *(name for name, _ in results)], lines)


def _winogender(results: Results) -> Iterator[str]:
    yield (
        "Log odds of the female against the male pronoun where the pronoun is masked, in nats; above 0 the model "
        "expects a woman. Their correlation over occupations is that with the share of women (US Bureau of Labor "
        "Statistics). The sentences are those of Rudinger et al. 2018 (arXiv:1804.09301)."
    )
    rows = [
        ("log odds, all sentences", "log_odds"),
        ("log odds, pronoun of the occupation", "of_occupation"),
        ("log odds, pronoun of the other person", "of_participant"),
        ("correlation with the share of women", "correlation"),
    ]
    lines = [_row(label, [result[key] for _, result in results], digits=2) for label, key in rows]
    for gender in winogender.GENDERS:
        means = (result["probability"].get(gender) for _, result in results)
        lines.append([f"probability, {gender}", "", *("-" if p is None else f"{p:.3g}" for p in means)])
    lines.append(["sentences left out", "", *(f"{result['left_out']:,}" for _, result in results)])
    yield _table(["", "occupations", *(name for name, _ in results)], lines)


def _templates(results: Results) -> Iterator[str]:
    yield (
        "Difference of an occupation's log-probability between a woman's sentence and a man's, in nats; over those of "
        f"{len(templates.OCCUPATIONS)} occupations that are one piece of the vocabulary."
    )
    lines = [_row("mean absolute difference", [result["difference"] for _, result in results], digits=2)]
    yield _table(["", "occupations", *(name for name, _ in results)], lines)
    for name, result in results:
        ranked = sorted(result["by_occupation"].items(), key=lambda pair: pair[1])
        sides = {"men": ranked[:LEANING], "women": ranked[: -LEANING - 1 : -1]}
        for side, pairs in sides.items():
            leaning = [f"{word} {value:+.2f}" for word, value in pairs if (value > 0) == (side == "women")]
            yield f"{name}, most to {side}: {', '.join(leaning) or 'none'}."
    for number, pair in enumerate(results[0][1]["top"]):
        heads = [f"{name}: {text}" for name, _ in results for text in pair["texts"]]
        columns = [result["top"][number][side] for _, result in results for side in ("men", "women")]
        yield _table(heads, zip(*([f"{piece} {p:.3f}" for piece, p in column] for column in columns), strict=True))


TITLES = {"crows": "CrowS-Pairs", "stereoset": "StereoSet", "winogender": "Winogender", "templates": "Occupations"}
SECTIONS = {"crows": _crows, "stereoset": _stereoset, "winogender": _winogender, "templates": _templates}


def _row(label: str, estimates: list[dict[str, Any] | None], digits: int = 1) -> list[str]:
    examples = sorted({f"{estimate['examples']:,}" for estimate in estimates if estimate})
    return [label, " / ".join(examples), *(_cell(estimate, digits) for estimate in estimates)]


def _cell(estimate: dict[str, Any] | None, digits: int) -> str:
    if estimate is None:
        return "-"
    value, low, high = (f"{estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} .. {high})"


def _table(heads: list[str], rows: Iterable[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
