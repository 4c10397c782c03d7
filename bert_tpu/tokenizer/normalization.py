"""How text becomes words: Google's rules, and the switches of transformers' BertTokenizer."""

import json
from typing import Any, NamedTuple

import tokenizers
from tokenizers import normalizers

GOOGLE, TRANSFORMERS, KEEP = "google", "transformers", "keep"  # values of Rules.clean
# Two patterns, without the intersections and escapes that JavaScript's regular expressions lack: transformers.js before
# 4.3 would refuse the tokenizer. The first is Unicode's Cc and Cf, and U+FFFD, without tab and the two line ends.
DROPPED = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\\p{Cf}\ufffd]"
CASED = r"[^\P{Cased}\p{Case_Ignorable}]"
# The same two as earlier releases wrote them.
FORMER_DROPPED, FORMER_CASED = r"[[\p{Cc}\p{Cf}\x{FFFD}]&&[^\t\n\r]]", r"[\p{Cased}&&[^\p{Case_Ignorable}]]"


class Rules(NamedTuple):
    """Switches of what happens to text before WordPiece, except the case. The defaults are google-research/bert's.

    clean: which characters are dropped. GOOGLE drops control characters and lowers a final sigma as Python does.
        TRANSFORMERS also drops private-use characters and has no final sigma. KEEP drops none.
    strip_accents: whether accents are dropped; None if that goes with the case, as in Google's models
    chinese: whether each CJK character is a word
    max_chars: a longer word is [UNK]
    """

    clean: str = GOOGLE
    strip_accents: bool | None = None
    chinese: bool = True
    max_chars: int = 200


GOOGLE_RULES = Rules()
BERT_TOKENIZER = Rules(clean=TRANSFORMERS, max_chars=100)  # transformers 5's class of this name


def normalizer(lower: bool, rules: Rules = GOOGLE_RULES) -> normalizers.Normalizer:
    """The library's normalizer of these rules."""
    bert = normalizers.BertNormalizer(
        clean_text=rules.clean == TRANSFORMERS,
        handle_chinese_chars=rules.chinese,
        strip_accents=rules.strip_accents,
        lowercase=lower,
    )
    return bert if rules.clean != GOOGLE else _cleaned_by_google(bert, lower, DROPPED, CASED)


def _cleaned_by_google(bert: normalizers.Normalizer, lower: bool, dropped: str, cased: str) -> normalizers.Normalizer:
    """Returns `bert` after Google's cleaning. dropped, cased: patterns of a character"""
    # BertNormalizer's own clean_text also drops private-use characters; Google's does not.
    steps = [normalizers.Replace(tokenizers.Regex(dropped), ""), bert]
    if lower:
        # Python's str.lower writes a final sigma at the end of a Greek word. Rust lowers char by char and does not.
        final = rf"(?<={cased}\p{{Case_Ignorable}}*)Σ(?!\p{{Case_Ignorable}}*{cased})"
        steps.insert(1, normalizers.Replace(tokenizers.Regex(final), "ς"))
    return normalizers.Sequence(steps)


def parse(state: Any) -> tuple[bool, Rules] | None:
    """(case, rules) of the `normalizer` of a tokenizer.json, with the default of max_chars; None if not BERT's."""
    for lower in (True, False):
        bert = normalizer(lower, GOOGLE_RULES._replace(clean=KEEP))
        former = _cleaned_by_google(bert, lower, FORMER_DROPPED, FORMER_CASED)
        if state in (json.loads(form.__getstate__()) for form in (normalizer(lower), former)):
            return lower, GOOGLE_RULES
    if isinstance(state, dict) and state.get("type") == "Sequence" and len(state.get("normalizers") or ()) == 1:
        (state,) = state["normalizers"]
    keys = {"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}
    if not isinstance(state, dict) or state.get("type") != "BertNormalizer" or state.keys() != keys:
        return None
    lower, strip = state["lowercase"], state["strip_accents"]
    if not all(isinstance(state[key], bool) for key in ("clean_text", "handle_chinese_chars", "lowercase")):
        return None
    clean = TRANSFORMERS if state["clean_text"] else KEEP
    return lower, Rules(clean=clean, strip_accents=accents(strip, lower), chinese=state["handle_chinese_chars"])


def accents(strip: bool | None, lower: bool) -> bool | None:
    """`strip`, or None if it says what the case says: one value for each meaning."""
    return None if strip == lower else strip
