"""Labels of a user's tables: finds the classes or numbers, and refuses what would silently be another class."""

import collections
import decimal
import re
import string
from typing import NamedTuple
import unicodedata

import numpy as np

from bert_tpu.core import command, numerals
from bert_tpu.data import token_rows
from bert_tpu.readers import tabular
from bert_tpu.tasks import label_doubts

DASH = "-"  # SNLI's mark for no label; next to "+" a class
# In small letters, with what Excel writes where it cannot compute.
MISSING = {"", "?", "nan", "n/a", "#n/a", "<na>", "null", "#name?", "#ref!", "#value!", "#div/0!", "#num!"}
NEARLY_ALL = 0.9  # of the different numbers, so that rounding of the last digits is no matter
NO_LABEL = decimal.Decimal(-1)  # in Hugging Face's test splits; elsewhere it may be a class
NUMBER = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d{1,5})?", re.ASCII)

# Quotes of print, and the dotless i: Turkish capitals lose the difference.
ALIKE = str.maketrans("\u2018\u2019\u201c\u201d\u0131", "''\"\"i")
DOTTED = "i\u0307"  # small letter of U+0130
CYRILLIC = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445", "aeopcyx")  # look like Latin letters

Key = decimal.Decimal | str
Tables = dict[str, tabular.Columns]


class Labels(NamedTuple):
    """Labels of all splits."""

    classes: tuple[str, ...]  # () for numbers
    values: dict[str, np.ndarray]  # split -> as token_rows.Rows.labels; all IGNORED in a split without labels
    unlabelled: tuple[str, ...]  # splits without labels
    notes: tuple[str, ...]


def read(tables: Tables, label: str, head: str) -> Labels:
    """Returns the labels in the column `label` of each split. Only the split "test" may lack the column.

    Spaces around a label are left out. A split other than train whose labels are all missing is unlabelled. Numbers
    are compared as numbers, so that 0 and 0.0 are one class if train has nothing but numbers. A class of a validation
    or test split that train does not have gets a number of its own, which no prediction equals.

    Raises UserError for a label that is missing, for labels that differ only in how they are written, and for less
    than two classes in train.

    tables: split -> table; the first is train
    head: "classify" or "regress"
    """
    notes: list[str] = []
    texts = {split: _texts(table, label, notes) for split, table in tables.items() if label in table.values}
    lacking = [split for split in tables if split not in texts]
    notes += [f"{tables[split].path}: no column {label!r}, so it is predicted only" for split in lacking]
    for split in list(texts):
        if split != "train" and _is_unlabelled(tables[split], texts[split], texts["train"], head):
            notes.append(f"{tables[split].path}: no row has a label ({texts[split][0]!r}), so it is predicted only")
            lacking.append(split)
            del texts[split]
    classes = {}
    if head == "classify":
        _check_kinds(tables["train"], label, texts["train"])
        classes = _classes(tables["train"], label, texts["train"], notes)
    values = {
        split: _ids(tables[split], column, classes, notes) if classes else _numbers(tables[split], column)
        for split, column in texts.items()
    }
    dtype = np.int32 if classes else np.float32
    if head == "regress":
        numbers, kept = (len(set(column)) for column in (map(float, texts["train"]), values["train"].tolist()))
        if kept <= NEARLY_ALL * numbers:
            notes.append(
                f"warning: the {numbers:,} different numbers of train are {kept:,} in float32; subtract one number "
                "from all"
            )
    if head == "regress" and len(set(values["train"].tolist())) == 1 < len(values["train"]):
        notes.append(
            f"warning: all rows of train have the number {texts['train'][0]} under {label!r}; nothing to learn"
        )
    values |= {split: np.full(len(tables[split].lines), token_rows.IGNORED, dtype) for split in lacking}
    return Labels(tuple(classes.values()), values, tuple(lacking), tuple(notes))


def _texts(table: tabular.Columns, label: str, notes: list[str]) -> list[str]:
    """Returns the labels without spaces around them."""
    raw = table.values[label]
    texts = [text.strip() for text in raw]
    wide = [i for i, (text, old) in enumerate(zip(texts, raw, strict=True)) if len(text) < len(old)]
    if wide:
        notes.append(
            f"{table.path}: {numerals.count(len(wide), 'label')} with spaces around, which are left out ({table.unit} "
            f"{table.lines[wide[0]]:,} first: {raw[wide[0]]!r})"
        )
    return texts


def _is_unlabelled(table: tabular.Columns, texts: list[str], train: list[str], head: str) -> bool:
    """Returns whether no row has a label. Raises UserError if some have."""
    missing = _missing(texts, train)
    if not any(missing):
        missing = [_number(text) == NO_LABEL for text in texts]
        if any(missing) and (NO_LABEL in map(_number, set(train)) if head == "classify" else not all(missing)):
            return False  # -1 is a class, or a number like any other
    if not all(missing):
        _check_labelled(table, texts, missing, ", take the column out to predict only")
    return all(missing)


def _check_labelled(table: tabular.Columns, texts: list[str], missing: list[bool], advice: str = "") -> None:
    """Raises UserError for the first missing label. advice: one more thing that a user may do"""
    if any(missing):
        row = missing.index(True)
        mark, rename = (f" ({texts[row]!r})", ", give that class another name") if texts[row] else ("", "")
        raise command.UserError(
            f"{table.place(row)} has no label{mark}, as {sum(missing):,} of {len(texts):,} rows; label "
            f"them{rename}{advice}, or take them out"
        )


def is_missing(text: str) -> bool:
    """Returns whether a label is a mark for no label, such as "" or NaN."""
    return text.casefold() in MISSING or text in ("NA", "NaT")


def _missing(texts: list[str], train: list[str]) -> list[bool]:
    """Returns which labels are missing."""
    no_dash = DASH in texts and "+" not in train
    return [is_missing(text) or (no_dash and text == DASH) for text in texts]


def _number(text: str) -> decimal.Decimal | None:
    return decimal.Decimal(text) if NUMBER.fullmatch(text) else None


def _key(text: str) -> Key:
    """Returns what labels share that differ only in how they are written: number, case, spaces, quotes, Unicode."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(ALIKE).replace(DOTTED, "i")
    if not folded.isascii():
        folded = "".join(str(unicodedata.decimal(c, c)) for c in folded)
        if any(c in folded for c in string.ascii_lowercase):  # letters of two scripts in one label
            folded = folded.translate(CYRILLIC)
    if (number := _number(folded)) is not None:
        return number
    folded = "".join(c for c in folded if unicodedata.category(c) != "Cf")  # marks without a width
    return re.sub(r"[_\s]+", " ", folded).strip(" \"'`").rstrip(".,;:") or text


def _check_kinds(table: tabular.Columns, label: str, texts: list[str]) -> None:
    """Raises UserError if a typed file mixes text, numbers and truth values."""
    kinds = (table.kinds or {}).get(label, {})
    if len(kinds) < 2 or (set(kinds) == {"text", "a number"} and all(map(NUMBER.fullmatch, set(texts)))):
        return
    places = " and ".join(f"{kind} in {table.unit} {number:,}" for kind, number in kinds.items())
    raise command.UserError(f"{table.path} mixes kinds of labels, {places}; write all as text")


def _classes(table: tabular.Columns, label: str, texts: list[str], notes: list[str]) -> dict[Key, str]:
    """Returns the classes of train, key -> name, in the order of their characters, or numbers."""
    _check_labelled(table, texts, _missing(texts, texts))
    counts = collections.Counter(texts)
    if broken := [name for name in counts if set(name) & set("\t\r\n")]:
        raise command.UserError(f"{table.path} has a label with a tab or line break, {broken[0]!r}; fix it")
    spellings: dict[Key, list[str]] = {}
    for name in sorted(counts, key=lambda name: (len(name), name)):
        spellings.setdefault(_key(name), []).append(name)
    is_numeric = all(isinstance(key, decimal.Decimal) for key in spellings)
    for names in spellings.values():
        if len(names) > 1:
            places = " and ".join(
                f"{name!r} ({numerals.count(counts[name], 'row')}, {table.unit} "
                f"{table.lines[texts.index(name)]:,} first)"
                for name in names[:3]
            )
            if not is_numeric:
                raise command.UserError(f"{table.path} writes one label in different ways, {places}; write them alike")
            notes.append(f"{table.path}: {places} are one class, {names[0]!r}")
            if len({name.lstrip("+").removesuffix(".0") for name in names}) > 1:
                notes[-1] = f"warning: {notes[-1]}; if these are codes, write a letter before each"
    if len(spellings) < 2:
        raise command.UserError(f"{table.path} has fewer than two labels under {label!r}; there is nothing to learn")
    if is_numeric:
        _check_no_label(table, texts, [key for key in spellings if isinstance(key, decimal.Decimal)], notes)
    notes += label_doubts.warnings(
        label, {names[0]: sum(counts[name] for name in names) for names in spellings.values()}
    )
    names = sorted(names[0] for names in spellings.values())
    return {_key(name): name for name in (sorted(names, key=decimal.Decimal) if is_numeric else names)}


def _check_no_label(table: tabular.Columns, texts: list[str], numbers: list[decimal.Decimal], notes: list[str]) -> None:
    """Raises UserError if -1 stands next to the classes 0, 1, 2 and more, where it means that there is no label."""
    others = [number for number in numbers if number != NO_LABEL]
    if len(others) == len(numbers) or min(others) < 0:
        return
    rows = [i for i, text in enumerate(texts) if _number(text) == NO_LABEL]
    if sorted(others) == list(range(len(others))) and len(others) > 2:
        raise command.UserError(
            f"{table.place(rows[0])} has the label -1, as {len(rows):,} of {len(texts):,} rows, which means no label "
            f"where the classes are 0 to {len(others) - 1}; take them out, or give that class another name"
        )
    notes.append(f"{table.path}: the label -1 is a class like any other ({numerals.count(len(rows), 'row')})")


def _ids(table: tabular.Columns, texts: list[str], classes: dict[Key, str], notes: list[str]) -> np.ndarray:
    """Returns the number of each row's class, int32. Classes that train does not have get the numbers after its own."""
    numeric = all(isinstance(key, decimal.Decimal) for key in classes)
    ids: dict[str, int] = {}
    numbers = {key: number for number, key in enumerate(classes)}
    unseen: dict[Key, int] = {}
    for text in dict.fromkeys(texts):
        key = _key(text)
        if key in classes and not numeric and classes[key] != text:
            raise command.UserError(
                f"{table.place(texts.index(text))} has the label {text!r}, which train writes {classes[key]!r}; write "
                "them alike"
            )
        known = numbers.get(key)
        ids[text] = len(classes) + unseen.setdefault(key, len(unseen)) if known is None else known
    labels = np.array([ids[text] for text in texts], np.int32)
    missed = np.flatnonzero(labels >= len(classes))
    keys = set(map(_key, ids))
    if len(missed) and numeric and all(isinstance(key, decimal.Decimal) for key in keys):
        _check_first(table, keys, set(classes))
    if len(missed) > len(labels) / 2:
        raise command.UserError(
            f"{table.place(missed[0])} has the label {texts[missed[0]]!r}, which is not a class of the train file, as "
            f"{len(missed):,} of {len(labels):,} rows; write the labels as train does: "
            f"{', '.join(map(repr, list(classes.values())[:5]))}"
        )
    if len(missed):
        missing = numerals.count(len(unseen), "class", "classes")
        notes.append(
            f"warning: {table.path}: {numerals.count(len(missed), 'row')} of {missing} that train does "
            f"not have, so that every prediction is wrong there ({table.unit} {table.lines[missed[0]]:,} first: "
            f"{texts[missed[0]]!r})"
        )
    return labels


def _check_first(table: tabular.Columns, keys: set[Key], classes: set[Key]) -> None:
    """Raises UserError if the classes are as many as those of train, one by one, but begin with another number."""
    own, known = (sorted(map(decimal.Decimal, each)) for each in (keys, classes))
    ranges = (range(int(first), int(first) + len(classes)) for first in (own[0], known[0]))
    if all(numbers == list(each) for numbers, each in zip((own, known), ranges, strict=True)):
        raise command.UserError(
            f"{table.path} numbers the classes from {own[0]} to {own[-1]}, but train from {known[0]} to {known[-1]}; "
            "write the labels as train does"
        )


def _numbers(table: tabular.Columns, texts: list[str]) -> np.ndarray:
    """Returns each row's number, float32. Raises UserError for one that is not finite in float32."""
    _check_labelled(table, texts, _missing(texts, []))
    largest = float(np.finfo(np.float32).max)
    for row, text in enumerate(texts):
        if not NUMBER.fullmatch(text) or abs(float(text)) > largest:
            remedy = label_doubts.remedy(text)
            raise command.UserError(
                f"{table.place(row)} has the label {text!r}, which is not a number{remedy or '; fix it'}, or learn "
                "classes with --config pairs:classify"
            )
    return np.array(texts, np.float64).astype(np.float32)
