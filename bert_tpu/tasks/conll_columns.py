"""Finds the column of words and that of tags in a file of columns, or refuses and names the columns to choose from."""

from collections.abc import Collection
from typing import NamedTuple

from bert_tpu.core import command
from bert_tpu.tasks import conll, tag_schemes

# Types of phrases in CoNLL-2000 and CoNLL-2003, English and German. A column of them stands before that of entities.
PHRASES = frozenset(("NP", "VP", "PP", "ADVP", "SBAR", "ADJP", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"))

FEW = 50  # different tags that no number of different words makes doubtful


class Choice(NamedTuple):
    """Columns of a file, from 0."""

    word: int
    tag: int | None  # None in a file of words alone
    note: str = ""  # what else might have been chosen


class _Column(NamedTuple):
    """A column, described by its cells."""

    place: int
    values: frozenset[str]
    types: frozenset[str] | None  # of entities, if its cells mark entities
    is_number: bool  # every cell has a digit: numbers of words, offsets, names of documents
    is_of_sentence: bool  # the same cell in all words of a sentence

    @property
    def is_tag(self) -> bool:
        return self.types is not None and len(self.values) > 1


def choose(table: conll.Table, word: str, tag: str, *, may_lack_tags: bool, known: Collection[str] = ()) -> Choice:
    """Returns the columns of words and tags.

    Tags are the column whose cells mark entities. If several do, columns of phrases (B-NP) do not count, and of
    GermEval's two the outer one is meant. If none does, tags are the column with the fewest different cells, if it
    alone has O, or is the last of two that vary. Words are the first column that neither counts nor repeats. Raises
    UserError, naming the columns, if that does not decide.

    table: of the file
    word, tag: a column's number, from 1, or its name; "" to find it
    may_lack_tags: whether one column is enough
    known: tags of train, if the file has fewer columns than that and so perhaps not that of tags; else empty
    """
    if table.width == 1:
        if not may_lack_tags:
            raise command.UserError(f"{table.path} has no tags, only one column; {_advice(table)}")
        return Choice(0, None)
    chosen_word = _place(table, "word", word)
    if may_lack_tags and tag.isdecimal() and int(tag) > table.width:
        return Choice(chosen_word or 0, None)
    chosen_tag, note = _place(table, "tag", tag), ""
    if chosen_word is not None and chosen_word == chosen_tag:
        raise command.UserError(f"config.data.word_column and tag_column are both {word}; give two columns")
    if chosen_word is not None and chosen_tag is not None:
        return Choice(chosen_word, chosen_tag)
    columns = [_describe(table, i) for i in range(table.width)]
    text = [column for column in columns if len(column.values) > 1 and not (column.is_number or column.is_tag)]
    if known and not tag and not any(column.is_tag for column in columns) and len(text) == 1:
        return Choice(text[0].place if chosen_word is None else chosen_word, None)
    if chosen_tag is None:
        chosen_tag, note = _tag(table, [column for column in columns if column.place != chosen_word])
        if known and _are_other_tags(columns[chosen_tag], known):
            chosen_tag, note = None, "no column has the tags of train"
    if chosen_word is None:
        chosen_word = _word(table, [column for column in columns if column.place != chosen_tag])
    return Choice(chosen_word, chosen_tag, note)


def _are_other_tags(column: _Column, known: Collection[str]) -> bool:
    """Whether a column is of other tags than train's, such as parts of speech or phrases."""
    inner = column.values - {tag_schemes.OUTSIDE}
    is_phrases = column.types is not None and column.types <= PHRASES
    return bool(inner) and not inner & set(known) and (is_phrases or inner == column.values)


def _advice(table: conll.Table) -> str:
    first = table.sentences[0][0][1][0]
    if sign := next((sign for sign in ",;|\u00a0\u3000" if sign in first.strip(sign)), ""):
        return f"divide the columns by tabs, not by {sign!r}"
    return "each line needs a word and its tag"


def _place(table: conll.Table, kind: str, column: str) -> int | None:
    if not column:
        return None
    if column in table.names:
        return table.names.index(column)
    if column.isdecimal() and 1 <= int(column) <= table.width:
        return int(column) - 1
    known = f"1 to {table.width}" + (f" or {', '.join(table.names)}" if table.names else "")
    raise command.UserError(f"{table.path} has no column {column!r}: give --config.data.{kind}_column={known}")


def _describe(table: conll.Table, place: int) -> _Column:
    sentences = [[cells[place] for _, cells in sentence] for sentence in table.sentences]
    values = frozenset(cell for sentence in sentences for cell in sentence)
    types: frozenset[str] | None = None
    inner = values - {tag_schemes.OUTSIDE}
    for scheme in map(tag_schemes.Scheme, tag_schemes.FORMS):
        tags = [scheme.parse(value) for value in inner]
        if types is None and all(tags) and (scheme.form != "suffix" or tag_schemes.OUTSIDE in values):
            types = frozenset(tag.type for tag in tags if tag)
    if types is None and any(value.startswith("(") for value in values):
        brackets = [tag_schemes.from_brackets(sentence) for sentence in sentences]
        if all(tags is not None for tags in brackets):
            types = frozenset(tag[2:] for tags in brackets for tag in tags or [])
    return _Column(
        place=place,
        values=values,
        types=types,
        is_number=all(any(c.isdigit() for c in value) for value in values),
        is_of_sentence=len(values) > 1
        and any(len(sentence) > 1 for sentence in sentences)
        and all(len(set(sentence)) == 1 for sentence in sentences),
    )


def _tag(table: conll.Table, columns: list[_Column]) -> tuple[int, str]:
    """Returns the column of tags, and a note about others."""
    marked = [column for column in columns if column.is_tag]
    entities = [column for column in marked if not (column.types or frozenset()) <= PHRASES]
    candidates = entities or marked
    if len(candidates) == 1:
        return candidates[0].place, ""
    if not candidates:
        # Cells of one kind, such as O in a file without entities, are no choice, unless there is no other.
        varied = [column for column in columns if len(column.values) > 1 and not column.is_number]
        fewest = sorted(varied, key=lambda column: (len(column.values), -column.place))
        if len(columns) == 1 or (len(columns) == 2 and len(columns[-1].values) == 1):
            return columns[-1].place, ""
        is_last = len(varied) == 2 and fewest[0].place > fewest[1].place
        has_outside = varied and [c.place for c in varied if tag_schemes.OUTSIDE in c.values] == [fewest[0].place]
        # Lemmas are the last of two columns, too.
        is_tag = varied and len(fewest[0].values) <= max(FEW, len(fewest[-1].values) // 4)
        is_tag = is_tag and 2 * len(fewest[0].values & fewest[-1].values) <= len(fewest[0].values)
        if (is_last or has_outside) and is_tag and not fewest[0].is_of_sentence:
            return fewest[0].place, ""
        candidates = varied or columns
    first, second = candidates[0], candidates[1] if len(candidates) > 1 else candidates[0]
    is_germeval = table.width == 4 and columns[0].place == 0 and columns[0].is_number and len(candidates) == 2
    if is_germeval and first.is_tag and second.place == 3 and (second.types or set()) <= (first.types or set()):
        return first.place, f"column {second.place + 1} also marks entities (--config.data.tag_column to take it)"
    raise command.UserError(
        f"{table.path} does not tell which column has the tags: {_named(table, candidates)}; give "
        f"--config.data.word_column and --config.data.tag_column, numbers from 1"
    )


def _word(table: conll.Table, columns: list[_Column]) -> int:
    left = [column for column in columns if len(column.values) > 1 and not column.is_tag]
    words = [column for column in left if not column.is_number and not column.is_of_sentence]
    if len(columns) == 1 or not left:
        return columns[0].place
    if words and 2 * len(words[0].values) >= max(len(column.values) for column in words):
        return words[0].place
    raise command.UserError(
        f"{table.path} does not tell which column has the words: {_named(table, words or left)}; give "
        "--config.data.word_column, a number from 1"
    )


def _named(table: conll.Table, columns: list[_Column]) -> str:
    """Returns the numbers of columns with names and examples."""
    words = []
    for column in columns[:6]:
        name = f" {table.names[column.place]}" if table.names else ""
        examples = sorted(column.values - {tag_schemes.OUTSIDE}, key=lambda value: (len(value), value))
        words.append(f"{column.place + 1}{name} ({', '.join(map(repr, examples[:2]))})")
    return ", ".join(words)
