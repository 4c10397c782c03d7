"""Reads files of columns, a word a line and a blank line after each sentence: CoNLL's of all years, and their kin."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
import re
from typing import NamedTuple
import unicodedata

from bert_tpu.core import command
from bert_tpu.readers import tabular

DOCUMENT = "-DOCSTART-"  # CoNLL-2003's line between documents, which looks like a sentence
CONLL_U = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
CONLL_2012 = {"word": 3, "pos": 4, "ner": 10}  # its lines have other widths, after the column of entities
WORD_NAMES = ("word", "words", "token", "tokens", "form", "text")
TAG_NAMES = ("ner", "ner_tag", "ner_tags", "tag", "tags", "label", "labels", "entity", "iob", "bio", "pos", "upos")
NUMBER = re.compile(r"\d+(?:[-.]\d+)?")  # of a word in CoNLL-U; 1-2 is a range of words, 8.1 a word that is not written
COMMENT = re.compile(r"#\S*\s*=|#(?:begin|end) document\b")
SENTENCE_NAMES = ("sentence_id", "sentence id", "sentence", "sentence #", "sentence_idx", "sent_id", "sentid", "sent")
LONGEST = 150  # words of a sentence that may be the only one of a file
BRAT = re.compile(r"[TREAMN]\d+\t\S+ |[#*]\d*\t")  # lines of .ann: entities, relations, events, attributes, notes
BRAT_ENTITY = re.compile(r"^T\d+\t\S+ \d+ \d+(?:;\d+ \d+)*\t", re.MULTILINE)
WEBANNO = "#FORMAT=WebAnno"
Line = tuple[int, list[str]]  # number, columns


class Table(NamedTuple):
    """A file of columns, as read."""

    path: str
    width: int  # columns of every line
    names: tuple[str, ...]  # of the columns; () if the file does not tell
    sentences: list[list[Line]]
    skipped: int  # lines without a word: comments, ranges, words that are not written
    note: str = ""  # how sentences were found, if not by blank lines

    def columns(self) -> list[list[str]]:
        """Returns the cells of each column."""
        rows = (cells for sentence in self.sentences for _, cells in sentence)
        return [list(column) for column in zip(*rows, strict=True)]


def read(path: str | Path, content: str) -> Table:
    """Returns the words of a file. Raises UserError, with the line, unless all lines have as many columns.

    A line with a tab is divided at tabs alone, any other at spaces; only if every line with tabs has spaces too, and
    both together give as many columns everywhere, they divide both. Other white space, such as U+00A0, is text. A line
    that begins with # before the first word of a sentence is a comment if its columns are not those of a word. A file
    without blank lines is divided where the cells of a column change that its first line calls `sentence_id` or alike.

    path: in error messages
    content: of the file
    """
    place = content.replace("\r\n", "\n\n").find("\r")
    if place >= 0:
        number = content.count("\n", 0, place) + 1
        raise command.UserError(f"{path} line {number} has a character '\\r' inside it; convert its line ends to LF")
    if content.lstrip().startswith("#begin document"):
        return _conll_2012(str(path), list(tabular.lines(content)))
    _check_is_no_table(path, content)
    _check_is_no_annotation(path, content)
    sentences, comments = _sentences(str(path), _split(content))
    names = _names(comments, sentences)
    if names and sentences and _is_header(sentences[0][0][1]):
        sentences = [sentence for sentence in (sentences[0][1:], *sentences[1:]) if sentence]
    width, note = len(sentences[0][0][1]) if sentences else 0, ""
    column = next((i for i, name in enumerate(names) if name.casefold() in SENTENCE_NAMES), None)
    if column is not None and len(sentences) == 1:
        sentences = _divide(str(path), sentences[0], column)
        note = f"sentences in column {column + 1} ({names[column]})"
    if width > 1 and all(NUMBER.fullmatch(cells[0]) for sentence in sentences for _, cells in sentence):
        sentences, ranges = _without_ranges(sentences)
        comments += ranges
        names = names or (CONLL_U if width == len(CONLL_U) else ())
    if len(sentences) == 1 and len(sentences[0]) > LONGEST:
        raise command.UserError(
            f"{path} has {len(sentences[0]):,} words in one sentence; put a blank line after each sentence"
        )
    return _without_last_empty(Table(str(path), width, names, sentences, len(comments), note))


def _divide(path: str, lines: list[Line], column: int) -> list[list[Line]]:
    """Returns the sentences of lines of which a column has the sentence's name; an empty cell is as the one above it.

    Raises UserError if a sentence's words are at several places.
    """
    sentences: dict[str, list[Line]] = {}
    last = ""
    for number, cells in lines:
        name = cells[column] or last
        if name != last and name in sentences:
            raise command.UserError(
                f"{path} line {number} goes on with the sentence {name!r} after another one; sort the lines by sentence"
            )
        last = name
        filled = [*cells[:column], name, *cells[column + 1 :]]
        sentences.setdefault(name, []).append((number, filled))
    return list(sentences.values())


def _check_is_no_annotation(path: str | Path, content: str) -> None:
    """Raises UserError for files of brat, and for those of WebAnno whose tags do not mark entities."""
    if BRAT_ENTITY.search(content) and all(BRAT.match(line) for _, line in tabular.lines(content) if line.strip()):
        raise command.UserError(
            f"{path} has brat's annotations without the words between them; convert it and its .txt to a word, a tab "
            "and its tag a line, with a blank line after each sentence"
        )
    if content.lstrip().startswith(WEBANNO) and not re.search(r"\t[BI]-", content):
        raise command.UserError(f"{path} is WebAnno's TSV, whose tags do not mark entities; export it as CoNLL 2002")


def _check_is_no_table(path: str | Path, content: str) -> None:
    """Raises UserError for CSV with a line of names, as Kaggle has of sentences."""
    first = content.lstrip().partition("\n")[0].rstrip()
    for sign in ",;|":
        if "\t" not in first and _is_header([cell.strip(' "') for cell in first.split(sign)]):
            raise command.UserError(
                f"{path} is a table divided by {sign!r}; write a word, a tab and its tag a line, and a blank line "
                "after each sentence"
            )


def _split(content: str) -> list[Line]:
    """Returns the columns of each line; none of a blank one, and of one between documents."""
    lines = list(tabular.lines(content))
    if DOCUMENT in content:
        lines = [(number, "" if DOCUMENT in line.split() else line) for number, line in lines]
    rows = [(number, _cells(line)) for number, line in lines]
    if "\t" in content:
        with_spaces = [any(" " in cell for cell in cells) for _, cells in rows if _is_word(cells) and len(cells) > 1]
        at_both = [(number, _cells(line.replace("\t", " "))) for number, line in lines] if all(with_spaces) else []
        if len({len(cells) for _, cells in at_both if _is_word(cells)}) == 1:
            return at_both
    return rows


def _cells(line: str) -> list[str]:
    if "\t" in line:
        cells = [cell.strip(" ") for cell in line.split("\t")]
        return cells if any(cells) else []
    cells = line.split(" ")
    return [cell for cell in cells if cell] if "" in cells else cells


def _is_word(cells: list[str]) -> bool:
    return bool(cells) and not cells[0].startswith("#")


def _sentences(path: str, lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """Returns the sentences and the comments of a file."""
    words = [cells for _, cells in lines if _is_word(cells)]
    widths = Counter(map(len, words or [cells for _, cells in lines if cells]))
    width = widths.most_common(1)[0][0] if widths else 0
    known = {cells[-1] for cells in words if len(cells) == width}
    sentences: list[list[Line]] = []
    sentence: list[Line] = []
    comments = []
    for line in lines:
        cells = line[1]
        while len(cells) > width and not cells[-1]:  # a tab too many at the end
            cells = cells[:-1]
        if not cells or (len(cells) == 1 < width and _is_invisible(cells[0])):
            sentences += [sentence] if sentence else []
            sentence = []
        elif not sentence and cells[0][:1] == "#" and _is_comment(cells, width, known):
            comments.append(line)
        elif len(cells) != width:
            raise command.UserError(
                f"{path} line {line[0]} has {len(cells)} columns, but most lines have {width}; fix it"
            )
        else:
            sentence.append((line[0], cells))
    return sentences + ([sentence] if sentence else []), comments


def _is_invisible(text: str) -> bool:
    """Whether text is a byte order mark, spaces of other kinds, or the like: all that some blank lines have."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


def _is_comment(cells: list[str], width: int, known: set[str]) -> bool:
    if len(cells) == width:  # the word "#" is one too, and has a tag that other words have
        return cells[0].split(" ")[0] == "#" and width > 1 and bool(known) and cells[-1] not in known
    return cells[0].split(" ")[0] == "#" or bool(COMMENT.match(" ".join(cells)))


def _names(comments: list[Line], sentences: list[list[Line]]) -> tuple[str, ...]:
    """Returns the columns' names: from CoNLL-U Plus's comment, or from a first line of names."""
    for _, cells in comments:
        words = " ".join(cells).split()
        if words[:3] == ["#", "global.columns", "="]:
            return tuple(words[3:])
    first = sentences[0][0][1] if sentences else []
    return tuple(first) if _is_header(first) else ()


def _is_header(cells: list[str]) -> bool:
    names = [cell.casefold() for cell in cells]
    return any(name in WORD_NAMES for name in names) and any(name in TAG_NAMES for name in names)


def _conll_2012(path: str, lines: list[tuple[int, str]]) -> Table:
    """Returns word, part of speech and entity of a file of CoNLL-2012."""
    sentences, skipped = [], 0
    for sentence in _blocks(lines):
        rows = []
        for number, line in sentence:
            cells = line.split()
            if cells[0] in ("#begin", "#end"):
                skipped += 1
                continue
            if len(cells) <= CONLL_2012["ner"]:
                raise command.UserError(
                    f"{path} line {number} has {len(cells)} columns, but CoNLL-2012 has {CONLL_2012['ner'] + 1} or "
                    "more; fix it"
                )
            rows.append((number, [cells[place] for place in CONLL_2012.values()]))
        sentences += [rows] if rows else []
    return Table(path, len(CONLL_2012), tuple(CONLL_2012), sentences, skipped)


def _blocks(lines: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    block: list[tuple[int, str]] = []
    for number, line in (*lines, (0, "")):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []


def _without_ranges(sentences: list[list[Line]]) -> tuple[list[list[Line]], list[Line]]:
    """Returns sentences without CoNLL-U's ranges of words and words that are not written, and those lines."""
    odd = [line for sentence in sentences for line in sentence if not line[1][0].isdigit()]
    kept = [[line for line in sentence if line[1][0].isdigit()] for sentence in sentences]
    # If every word has a number such as 1-2, it is of a sentence and a word, as in WebAnno's files.
    return ([sentence for sentence in kept if sentence], odd) if any(kept) else (sentences, [])


def _without_last_empty(table: Table) -> Table:
    """Returns a table without last columns that are empty in every line: a tab at the end of each makes one."""
    width = table.width
    while width > 1 and not any(cells[width - 1] for sentence in table.sentences for _, cells in sentence):
        width -= 1
    if width == table.width:
        return table
    sentences = [[(number, cells[:width]) for number, cells in sentence] for sentence in table.sentences]
    return table._replace(width=width, names=table.names[:width], sentences=sentences)
