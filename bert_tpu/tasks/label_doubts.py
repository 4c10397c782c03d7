"""Warns about classes that are probably something else: numbers, several labels in one, misspellings, confidences."""

from collections.abc import Iterator, Mapping
import re
import unicodedata

from bert_tpu.core import numerals
from bert_tpu.tasks import misspellings

LONGEST = 100  # characters of a class whose form is looked at; longer ones are texts, and would cost much time
MOST = 2000  # classes that are looked at one by one
MANY = 20  # different numbers, or rows, from which on the labels are probably not classes
REGRESS = "--config pairs:regress learns numbers"
NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# 10%, 4/5 and $1.50
AMOUNT = re.compile(
    r"[+-]?\d+(?:[.,]\d+)? ?[%$\u20ac]|\d+(?:[.,]\d+)? ?/ ?\d+|[$\u00a3\u20ac\u00a5] ?\d+(?:[.,]\d+)?", re.ASCII
)
BYTES = re.compile(r"b(['\"]).*\1", re.DOTALL)
# A name and the share of it that somebody or something believes in: "pos (0.93)", "pos: 93%".
CONFIDENT = re.compile(r"(.*[^\W\d_].*?)[\s:;,|=/_]*[(\[]?\d*(?:[.,]\d+ ?%?|\d%)[)\]]?")
LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)
JOINT = re.compile(r"\s*[,;|#&+/]\s*")  # between several labels of a row
DATE = re.compile(r"\d{1,2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)")  # 1-3 as Excel changes it
NOTHING = ("none", "nil", "undefined", "unlabeled", "unlabelled", "n.a.", "no label")


def warnings(label: str, counts: Mapping[str, int]) -> Iterator[str]:
    """Yields sentences about the classes of a training file.

    label: name of the column
    counts: class -> rows
    """
    numbers = [name for name in counts if NUMBER.fullmatch(name)]
    amounts = [name for name in counts if AMOUNT.fullmatch(name)]
    if len(numbers) == len(counts) or len(amounts) == len(counts):
        yield from _about_numbers(label, counts, amounts)
        return
    total, single = sum(counts.values()), [name for name, count in counts.items() if count == 1]
    if total >= MANY and len(counts) > total / 2:
        yield f"warning: {label!r} has {len(counts):,} classes in {total:,} rows; is it the column of the labels?"
    elif total >= MANY and single:
        yield _about_single(counts, single)
    if len(counts) > MOST:
        return
    for wrong, right in misspellings.find(counts):
        yield (
            f"warning: the label {wrong!r} ({numerals.count(counts[wrong], 'row')}) is nearly {right!r} "
            f"({numerals.count(counts[right], 'row')}); write them alike if they are one class"
        )
    yield from _about_forms(label, counts)


def _about_single(counts: Mapping[str, int], single: list[str]) -> str:
    verb = "has" if len(single) == 1 else "have"
    return f"warning: {len(single):,} of {len(counts):,} classes {verb} one row in train, such as {single[0]!r}"


def _about_numbers(label: str, counts: Mapping[str, int], amounts: list[str]) -> Iterator[str]:
    """Yields a sentence about classes that are all numbers: they may be amounts, or numbers of classes."""
    total, single = sum(counts.values()), [name for name, count in counts.items() if count == 1]
    fractions = [name for name in counts if name.strip("+-").replace(",", ".").partition(".")[2].strip("0")]
    if amounts:
        yield f"warning: {label!r} has amounts such as {amounts[0]!r}, each a class; written as a number, {REGRESS}"
    elif len(fractions) >= MANY and len(fractions) > len(counts) / 2:
        yield f"warning: {label!r} has {len(counts):,} different numbers, each a class; {REGRESS}"
    elif total >= MANY and len(counts) > total / 2:
        yield (
            f"warning: {label!r} has {len(counts):,} different numbers in {total:,} rows, each a class; is it the "
            f"column of the labels? {REGRESS}"
        )
    elif fractions:
        yield f"warning: {label!r} has numbers with fractions such as {fractions[0]}, each a class; {REGRESS}"
    else:
        if len(counts) >= MANY:
            yield f"{label!r} has {len(counts):,} different numbers, each a class; {REGRESS}"
        if total >= MANY and single:
            yield _about_single(counts, single)


def _about_forms(label: str, counts: Mapping[str, int]) -> Iterator[str]:
    """Yields sentences about classes whose spelling shows that they are not one name."""
    counts = {name: count for name, count in counts.items() if len(name) <= LONGEST}
    if lists := [name for name in counts if LIST.fullmatch(name)]:
        yield (
            f"warning: {_rows(lists, counts)} with a list as label, such as {lists[0]!r}, and each spelling is a class "
            "of its own; give each row one label"
        )
    joined = [name for name in counts if len(parts := JOINT.split(name)) > 1 and all(part in counts for part in parts)]
    if joined:
        yield (
            f"warning: {_rows(joined, counts)} with several labels, such as {joined[0]!r}, which is a class of its "
            "own; give each row one label"
        )
    confident = [match for match in map(CONFIDENT.fullmatch, counts) if match]
    if len(confident) > 1 and 2 * len({match[1] for match in confident}) <= len(confident):
        yield (
            f"warning: labels of {label!r} end with a number, such as {confident[0][0]!r}, and each spelling is a "
            "class of its own; take the numbers out if they are shares or confidences"
        )
    if printed := [name for name in counts if BYTES.fullmatch(name)]:
        yield f"warning: the label {printed[0]} is in the form of Python's bytes ({_rows(printed, counts)})"
    plain: dict[str, str] = {}
    for name in counts:
        letters = [c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c)]
        if (other := plain.setdefault("".join(letters), name)) != name:
            yield f"warning: the labels {other!r} and {name!r} differ in accents alone; are they one class?"
    if dates := [name for name in counts if DATE.fullmatch(name)]:
        yield f"warning: the label {dates[0]!r} looks as if Excel had made a date of it ({_rows(dates, counts)})"
    if nothing := [name for name in counts if name.casefold() in NOTHING]:
        yield f"the label {nothing[0]!r} is a class like any other ({_rows(nothing, counts)})"


def _rows(names: list[str], counts: Mapping[str, int]) -> str:
    return numerals.count(sum(counts[name] for name in names), "row")


def remedy(text: str) -> str:
    """Returns what to write for an amount, or a number with a comma, a decimal one or between thousands; else ""."""
    if match := re.fullmatch(r"([+-]?[1-9]\d{0,2}),(\d{3})", text):
        return f"; write {match[1]}.{match[2]} if the comma is a decimal one, or {match[1]}{match[2]} if not"
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", text) and text.count(",") + text.count(".") > 1:
        return f"; write {text.replace(',', '')}"
    if re.fullmatch(AMOUNT, text):
        return "; write the number alone"
    return "; write a decimal point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
