"""Reads the sentences of a split, a tag for each word: from columns, JSON lines or TFDS."""

from collections import Counter
import itertools
from pathlib import Path
import re
from typing import NamedTuple

from etils import epath

from bert_tpu.core import command
from bert_tpu.readers import tabular, tfds, typed_rows
from bert_tpu.tasks import conll, conll_columns, tag_schemes, tagged_rows

KEYED = re.compile(r"[A-Za-z]\w*=.")  # a feature of CoNLL-U's MISC


class Sentences(NamedTuple):
    """A split, as read."""

    words: list[list[str]]
    tags: list[list[str]] | None  # None in a test split without tags
    source: str  # "train.txt line": the beginning of error messages, followed by a number
    numbers: list[list[int]]  # of each word
    note: str = ""  # which columns or keys were read
    skipped: int = 0  # lines without a word
    left_out: int = 0  # rows without a sentence

    def places(self) -> dict[str, tag_schemes.Seen]:
        """Returns how often each tag occurs, and where first."""
        counts: Counter[str] = Counter()
        first: dict[str, int] = {}
        for tags, numbers in zip(self.tags, self.numbers, strict=True) if self.tags else ():
            counts.update(tags)
            for tag, number in zip(tags, numbers, strict=True):
                first.setdefault(tag, number)
        return {tag: tag_schemes.Seen(count, f"{self.source} {first[tag]}") for tag, count in counts.items()}


def from_files(folder: str, names: dict[str, str], word: str, tag: str) -> dict[str, Sentences]:
    """Returns the splits of a folder. Raises UserError for a file that is not understood in full.

    The columns of the training file are those of all files with as many; in a file with more or fewer they are found
    as in the training file.

    folder: of the files; "" if their names are paths
    names: split -> file; "train" is the first
    word, tag: numbers or names of columns, or keys of JSON lines; "" to find them
    """
    splits: dict[str, Sentences] = {}
    choice, train = conll_columns.Choice(0, None), None
    for split, name in names.items():
        path = epath.Path(folder) / name if folder else epath.Path(name)
        rows = _rows(path, word, tag, may_lack_tags=split == "test")
        if rows:
            numbers = [[row] * len(sentence) for row, sentence in zip(rows.rows, rows.words, strict=True)]
            splits[split] = Sentences(rows.words, rows.tags, f"{path} row", numbers, rows.note, left_out=rows.left_out)
            continue
        table = conll.read(path, tabular.text(path))
        if not table.sentences:
            raise command.UserError(f"{path} has no sentences in it; fetch or make it again")
        if train is None or table.width != train.width or (table.names and table.names != train.names):
            is_narrow = train is not None and table.width < train.width
            known = splits["train"].places() if is_narrow and split == "test" else ()
            own = conll_columns.choose(table, word, tag, may_lack_tags=split == "test", known=known)
        else:
            own = choice
        if train is None:
            train, choice = table, own
        elif split == "test" and own.tag is not None and _is_blank(table, own.tag, splits["train"].tags):
            own = conll_columns.Choice(
                own.word, None, f"column {own.tag + 1} is the same everywhere, and no tag of train"
            )
        splits[split] = _from_columns(table, own)
    return splits


def from_tfds(dataset: str, names: dict[str, str], word: str, tag: str) -> dict[str, Sentences]:
    """Returns splits of TFDS, from its features `word` ("": tokens) and `tag` ("": ner)."""
    word, tag = word or "tokens", tag or "ner"
    tables = tfds.tables(dataset, (word, tag))
    if missing := [name for name in names.values() if name not in tables]:
        raise command.UserError(f"{dataset} has no split {missing[0]!r} but {', '.join(tables)}")
    splits = {}
    for split, name in names.items():
        words, tags = tables[name][word], tables[name][tag]
        kept = [i for i, sentence in enumerate(words) if sentence and sentence[0] != conll.DOCUMENT]
        is_tagged = all(value is not None for i in kept for value in tags[i])
        splits[split] = Sentences(
            [words[i] for i in kept],
            [tags[i] for i in kept] if is_tagged else None,
            f"{dataset} {name} sentence",
            [[i] * len(words[i]) for i in kept],
            left_out=len(words) - len(kept),
        )
    return splits


def _rows(path: Path, word: str, tag: str, *, may_lack_tags: bool) -> tagged_rows.Read | None:
    """Returns the sentences of a file of rows with lists; None for a file of columns."""
    if typed_rows.is_parquet(path):
        return tagged_rows.read_parquet(path, word, tag, may_lack_tags=may_lack_tags)
    content = tabular.text(path)
    if tagged_rows.is_json(content):
        return tagged_rows.read_json(path, content, word, tag, may_lack_tags=may_lack_tags)
    return None


def _from_columns(table: conll.Table, choice: conll_columns.Choice) -> Sentences:
    for number, cells in (line for sentence in table.sentences for line in sentence):
        for kind, place in (("word", choice.word), ("tag", choice.tag)):
            if place is not None and not cells[place]:
                raise command.UserError(f"{table.path} line {number} has no {kind} in column {place + 1}; fix it")
    if choice.tag is not None:
        cells = [cells[choice.tag] for sentence in table.sentences for _, cells in sentence]
        if all(cell[:1] == cell[-1:] == '"' for cell in cells):
            raise command.UserError(f"{table.path} has quotes around tags, such as {cells[0]}; write it without quotes")
        if all(cell == "_" or KEYED.match(cell) for cell in cells) and any(cell != "_" for cell in cells):
            keyed = next(cell for cell in cells if cell != "_")
            raise command.UserError(
                f"{table.path} has names before tags in column {_name(table, choice.tag)}, such as {keyed!r}; write "
                "the tags alone into a column of their own"
            )
    words = [[cells[choice.word] for _, cells in sentence] for sentence in table.sentences]
    first = words[0][0].partition(":")[0] + ":"
    if first != ":" and len({*itertools.chain(*words)}) > 1 and all(w.startswith(first) for row in words for w in row):
        raise command.UserError(f"{table.path} begins every word with {first!r}; take it out")
    tags, columns = None, f"words in column {_name(table, choice.word)}"
    if choice.tag is not None:
        tags = [[cells[choice.tag] for _, cells in sentence] for sentence in table.sentences]
        brackets = [tag_schemes.from_brackets(sentence) for sentence in tags]
        if all(sentence is not None for sentence in brackets) and any("(" in t for part in tags for t in part):
            tags = [sentence or [] for sentence in brackets]
        columns += f", tags in column {_name(table, choice.tag)}"
    columns += f", {table.note}" if table.note else ""
    notes = [columns] if table.width > 1 else []
    notes += [choice.note] if choice.note else []
    numbers = [[number for number, _ in sentence] for sentence in table.sentences]
    return Sentences(words, tags, f"{table.path} line", numbers, "; ".join(notes), table.skipped)


def _is_blank(table: conll.Table, place: int, known: list[list[str]] | None) -> bool:
    """Whether a column has one value, such as _, that is none of the known tags."""
    values = {cells[place] for sentence in table.sentences for _, cells in sentence}
    return len(values) == 1 and not any(values & set(tags) for tags in known or [])


def _name(table: conll.Table, place: int) -> str:
    return f"{place + 1} ({table.names[place]})" if table.names else str(place + 1)
