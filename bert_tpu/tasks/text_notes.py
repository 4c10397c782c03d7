"""Counts texts that a program has written in another form than it read them: lists, bytes, marks for no text, HTML."""

from collections.abc import Iterator, Sequence
import re

from bert_tpu.core import numerals
from bert_tpu.readers import suspicions

FEW = 0.01  # share of texts up to which a note is no warning
CELL = 32_767  # characters of a cell of Excel, which loses the rest
SHOWN = 40  # characters of a text in a note
HTML = "with HTML, which the model reads as words"  # many data sets have some
LONGEST = 14  # characters of a mark for no text
NOTHING = re.compile(
    r"none|nan|null|undefined|nat|n/a|#n/a|<na>|#name\?|#ref!|#value!|#div/0!|#num!|\[(?:deleted|removed)\]",
    re.IGNORECASE,
)
PIECES = re.compile(r"\[(?:CLS|SEP|PAD)\]|(?<=\w )##[^\W\d]")
FIRST, LAST = tuple("[({bB<ant"), tuple("])}>'\"")  # characters of the forms below
# Python's and JavaScript's lists, objects and bytes: ['a', 'b'], {'text': 'a'}, b'a', array(['a']), [object Object].
PRINTED = re.compile(
    r"""[\[(]\s*[bu]?['"].*['"]\s*,?\s*[\])] | \{\s*(['"]).+?\1\s*:.*\} | [bB](['"]).*\2 | \[object\ Object\]
    | (?:np\.)?(?:array|tensor|str_)\(.*\) | <[\w.]+\ object\ at\ 0x[0-9a-f]+>""",
    re.DOTALL | re.VERBOSE,
)


def notes(path: str, unit: str, numbers: Sequence[int], texts: Sequence[str]) -> Iterator[str]:
    """Yields a sentence for each kind of odd text that occurs, with its count and the first one.

    path: of the file
    unit: what `numbers` count, such as "line"
    numbers: of the texts
    texts: of a column
    """
    kinds: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        for kind in _kinds(text):
            kinds.setdefault(kind, []).append(i)
    for kind, rows in kinds.items():
        first = texts[rows[0]].strip()
        shown = first if len(first) <= SHOWN else f"{first[: SHOWN - 1]}…"
        yield (
            f"{'warning: ' if kind != HTML and len(rows) > FEW * len(texts) else ''}{path}: "
            f"{numerals.count(len(rows), 'text')} {kind} ({unit} {numbers[rows[0]]:,} first: {shown!r})"
        )


def _kinds(text: str) -> Iterator[str]:
    if len(text) <= LONGEST and NOTHING.fullmatch(text.strip()):
        yield "of nothing but None, NaN or the like, which the model reads as words"
    elif text.startswith(FIRST) and text.endswith(LAST) and PRINTED.fullmatch(text.strip()):
        yield "in the form of a list, an object or bytes as a program prints them; the model reads the quotes, too"
    if "_x000D_" in text:
        yield "with _x000D_, Excel's mark for the end of a line"
    if "\\" in text and suspicions.BREAK.search(text):
        yield "with \\n written out, which the model reads as letters"
    if ("[" in text or "##" in text) and PIECES.search(text):
        yield "with [CLS], [SEP], [PAD] or ## of a tokenizer, which the model reads as words"
    if len(text) == CELL:
        yield f"of {CELL:,} characters, where Excel cuts a cell"
    if ("Ã" in text or "â" in text) and suspicions.GARBLED.search(text):
        yield "with letters that were decoded as another encoding"
    if ("<" in text and suspicions.TAG.search(text)) or ("&" in text and suspicions.ENTITY.search(text)):
        yield HTML
