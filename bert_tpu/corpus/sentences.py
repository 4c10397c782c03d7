"""Splits documents into the sentences that NSP pairs consist of, each line by the rules of its script.

Latin script: nupunkt's trained English model, or the rules of sentencex for the language that the user names. Thai has
no marks between sentences: pythainlp's trained model. Khmer and Tibetan: after their own marks. All other scripts:
sentencex (Wikimedia), which knows the marks of each, such as the Chinese full stop and the Hindi danda. In languages
with capitals other than English, a part that begins with a small letter continues the sentence before it.
"""

from collections.abc import Callable
import functools
import itertools
import re

from bert_tpu.core import command
from bert_tpu.corpus import english, scripts

# Characters split at once: nupunkt is quadratic in a run such as "?!?!?!", and sentencex in one of opening quotes.
MAX_CHARS = 4000
LONGEST = 1000  # characters; a longer sentence is a sign of a text whose sentences nothing can split
MARKS = {"Khmer": "[\u17d4\u17d5?!]+[\u00bb\u201d\"')]*", "Tibetan": "[\u0f0d-\u0f12]+"}
# Japanese: what follows a quotation and belongs to its sentence, and a bracket that closes the sentence before.
CONTINUES = re.compile("[\u300d\u300f\uff09]|\u3068(?![\u3066\u3053\u306b\u304d\u308a\u3046])|\u3063\u3066|\u3092")
# A document's lines in Latin script are not in these languages. nupunkt splits English.
NOT_LATIN = {"en", *(code for script in scripts.SCRIPTS for code in script.languages)} - scripts.ALSO_LATIN
NUPUNKT = {"fr", "hu", "pt", "vi"}  # languages that it splits better than sentencex: docs/benchmarks.md
CASED = {"Latin", "Cyrillic", "Greek", "Armenian"}
SMALL = re.compile("[\u2014\u2013-]\\s*[^\\W\\d_]")  # a dash and a letter, as after a quotation

Splitter = Callable[[str], list[str]]


def split(document: str, language: str = "") -> list[str]:
    """Returns the sentences of a document in order; none is blank and none contains a newline.

    document: its lines are split one by one.
    language: ISO 639 code of the text, which chooses the rules for lines in this language's script; "" if not known.

    Only white space at the edges of a sentence is dropped. A sentence of more than MAX_CHARS characters is cut, at
    white space if it has some. Raises UserError for Thai if its library is not installed.
    """
    lines = [line for line in document.split("\n") if line and not line.isspace()]
    if not scripts.has_others(document):
        split_text = _splitter(*_rules(None, language))
        return [sentence for line in lines for sentence in _split_line(line, split_text)]
    found: list[str] = []
    for line in lines:
        script, code = _rules(scripts.find(line), language)
        if script == "Thai" and scripts.find(document) != scripts.THAI:
            found.append(line.strip())  # a name in another text is no reason to need a model
        else:
            found += _split_line(line, _splitter(script, code))
    return found


def check(language: str) -> None:
    """Raises UserError if the library that splits this language's sentences is not installed."""
    script = next((script for script in scripts.SCRIPTS if language in script.languages), None)
    _splitter(*_rules(script, language))


def _rules(script: scripts.Script | None, language: str) -> tuple[str, str]:
    """Returns the names of a line's script and language, the second "" for the default of Latin script."""
    if script is None:
        return "Latin", "" if language in NOT_LATIN else language
    return script.name, language if language in script.languages else script.languages[0]


def _split_line(line: str, split_text: Splitter) -> list[str]:
    """Returns the sentences of a line, at most MAX_CHARS characters of which are split at once."""
    found = []
    while len(line) > MAX_CHARS:
        stop = line.rfind(" ", MAX_CHARS // 2, MAX_CHARS) + 1 or MAX_CHARS
        parts = _stripped(split_text(line[:stop]))
        if len(parts) > 1 and (last := line.rfind(parts[-1], 0, stop)) > 0:  # it may go on
            parts.pop()
            stop = last
        found += parts
        line = line[stop:]
    return found + _stripped(split_text(line))


def _stripped(parts: list[str]) -> list[str]:
    return [sentence for part in parts if (sentence := part.strip())]


@functools.cache
def _splitter(script: str, language: str) -> Splitter:
    """Returns the function that splits text in a script. Loads its model or rules, once a process."""
    if script == "Latin" and (not language or language in NUPUNKT):
        tokenize = english.splitter()
        return (lambda text: _continued(text, _with_spaces(text, tokenize(text)))) if language else tokenize
    if script in MARKS:
        return re.compile(f".+?{MARKS[script]}|.+").findall
    if script == "Thai":
        command.require("Thai text", "pythainlp", "pycrfsuite", extra="thai")
        from pythainlp import tokenize as thai

        return functools.partial(thai.sent_tokenize, engine="crfcut")  # type: ignore[return-value]  # of one string
    import sentencex  # here, because only the processes that split need it

    segment = functools.partial(sentencex.segment, language)
    if language == "ja":
        return lambda text: _rejoined(segment(text))
    if script == "Latin":  # the rules of German, for example, expect a capital
        by_model = _splitter("Latin", "")
        return lambda text: by_model(text) if text.islower() else _continued(text, segment(text))
    return (lambda text: _continued(text, segment(text))) if script in CASED else segment


def _with_spaces(text: str, parts: list[str]) -> list[str]:
    """Returns the parts of a text with the white space between them, which nupunkt drops."""
    starts, start = [], 0
    for part in parts:
        start = text.index(part, start)
        starts.append(start)
        start += len(part)
    return [text[start:stop] for start, stop in itertools.pairwise([*starts, len(text)])]


def _continued(text: str, parts: list[str]) -> list[str]:
    """Returns the sentences of a text from its parts.

    After a full stop, and after a quotation with a dash, a part that begins with a small letter belongs to the part
    before it: "am 3. Mai" has a capital, but "p. m. ayer" has none. A text without capitals shows nothing.
    """
    if text.islower():
        return parts
    found: list[str] = []
    for part in parts:
        dash = SMALL.match(part)
        if found and (dash[0][-1].islower() if dash else part[:1].islower() and found[-1].rstrip()[-1:] == "."):
            found[-1] += part
        else:
            found.append(part)
    return found


def _rejoined(parts: list[str]) -> list[str]:
    """Returns Japanese sentences; those that end with a quotation in their middle are joined with the rest."""
    found: list[str] = []
    for part in parts:
        if found and CONTINUES.match(part):
            found[-1] += part
        else:
            found.append(part)
    return found
