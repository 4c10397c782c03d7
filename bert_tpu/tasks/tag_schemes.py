"""Schemes of tags: how the tags of words mark entities (IOB, IOBES, BILOU, BMES), or that each word stands alone."""

from collections.abc import Mapping, Sequence
import functools
import re
from typing import NamedTuple
import unicodedata

from bert_tpu.core import command

OUTSIDE = "O"
# First, inner, last and only word of an entity. BILOU has L and U, BMES and BMEWO have M and W.
MARKS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
PREFIX = re.compile(r"([BIMELSUW])[-_](.+)", re.DOTALL)
SUFFIX = re.compile(r"(.+)[-_]([BIMELSUW])", re.DOTALL)
# "(PER*", "*", "*)" and "(PER)", as in CoNLL-2005 and CoNLL-2012.
BRACKETS = re.compile(r"(?:\(([^()*\s]+))?(\*?)(\)?)")
FORMS = ("prefix", "mark", "suffix")
WORDS = "words"  # the value of config.data.scheme
OUTSIDE_ELSEWHERE = ("o", "0", "_", "-", "*", "other", "none", "null", "nil", "nan", "na", "n/a", "out", "outside")
# After the type of an entity: the tag of another one at the same word, as in B-LOC|B-ORG.
NESTED = re.compile(r"[|,;/+&#]\s*(?:[BIMELSUW][-_].|O(?![^|,;/+&#]))")
NESTED_SUFFIX = re.compile(r"[-_][BIMELSUW]\s*[|,;/+&#]")


Entity = tuple[str, int, int]  # type, first word, word after the last one


class Tag(NamedTuple):
    """A tag, taken apart."""

    mark: str  # "B", "I", "E", "S" or "O"
    type: str  # "" if the tags of a file are marks alone


NO_TAG = Tag("O", "")


class Seen(NamedTuple):
    """The occurrences of a tag."""

    words: int
    where: str  # the first place, such as "train.txt line 3"


class Scheme(NamedTuple):
    """The form of all tags of a task."""

    form: str  # "prefix" (B-PER), "suffix" (PER-B), "mark" (B) or "words": each word has a tag of its own

    def parse(self, tag: str) -> Tag | None:
        """Returns the parts of a tag; None if it has another form. In the form "words" every tag but O is an entity."""
        return _parse(self.form, tag)

    def entities(self, tags: Sequence[str | None]) -> set[Entity]:
        """Returns the entities of a sentence. None and tags of another form are outside.

        A word goes on with the entity of the word before it if that is a B or I, and this an I or E of the same type.
        Every other word with a type begins one, with any mark. That is how conlleval (Tjong Kim Sang and Buchholz,
        Introduction to the CoNLL-2000 shared task (2000)) and seqeval's default mode read the sequences that no scheme
        allows, too.
        """
        spans, first = set(), 0
        before = NO_TAG
        for i, tag in enumerate((*tags, None)):
            now = (_parse(self.form, tag) if tag is not None else None) or NO_TAG
            if not (before.mark in "BI" and now.mark in "IE" and before.type == now.type):
                if before.mark != "O":
                    spans.add((before.type, first, i))
                first = i
            before = now
        return spans

    def check(self, tags: Mapping[str, Seen], known: Mapping[str, Seen]) -> None:
        """Raises UserError for tags of a scored split that have another form than those of train, or share none.

        tags: of the split
        known: of the training split
        """
        if odd := [tag for tag in tags if not self.parse(tag)]:
            fit = next(tag for tag in known if tag != OUTSIDE)
            raise command.UserError(
                f"{_place(odd[0], tags)}, which does not mark an entity as the training tag {fit!r} does; write all "
                "in one form"
            )
        _check_nested(self, tags)
        inner = set(tags) - {OUTSIDE}
        if self.form == WORDS and inner and not inner & set(known):
            raise command.UserError(
                f"{_place(min(inner), tags)}, and no tag that the training split has; check the file and "
                "--config.data.tag_column"
            )


@functools.cache
def _parse(form: str, tag: str) -> Tag | None:
    if tag == OUTSIDE:
        return NO_TAG
    if form == WORDS:
        return Tag("S", tag)
    if form == "mark":
        return Tag(MARKS[tag], "") if tag in MARKS else None
    match = (PREFIX if form == "prefix" else SUFFIX).fullmatch(tag)
    if not match:
        return None
    mark, kind = match.groups() if form == "prefix" else match.groups()[::-1]
    return Tag(MARKS[mark], kind)


def find(tags: Mapping[str, Seen], wanted: str = "") -> Scheme:
    """Returns the scheme of the tags of a training split.

    Tags of which some, but not all, mark entities are refused by name, because words with the others would be lost. So
    are marks in small letters, and types that differ only by case.

    tags: tag -> where it occurs
    wanted: "words" if no tag marks entities, though some look as if they did; "" to find out
    """
    if wanted not in ("", WORDS):
        raise command.UserError(f"scheme {wanted!r}: give --config.data.scheme={WORDS} or leave it out")
    inner = [tag for tag in tags if tag != OUTSIDE]
    if wanted or not inner:
        return Scheme(WORDS)
    for scheme in map(Scheme, FORMS):
        fits = [tag for tag in inner if scheme.parse(tag)]
        marks = {tag.mark for tag in map(scheme.parse, fits) if tag}
        odd = [tag for tag in inner if tag not in fits]
        # Single capitals and words that end in -S may be parts of speech; marks of entities include a B, or I alone.
        is_sure = bool(fits) if scheme.form == "prefix" else "B" in marks or marks == {"I"}
        if is_sure and not odd:
            _check_nested(scheme, tags)
            _check_types(scheme, tags)
            return scheme
        if is_sure and (scheme.form == "prefix" or ("I" in marks and len(odd) < 3)):
            _refuse_odd(odd[0], fits[0], tags)
    _check_letters(inner, tags)
    return Scheme(WORDS)


def _refuse_odd(odd: str, fit: str, tags: Mapping[str, Seen]) -> None:
    advice = f"write {OUTSIDE} for a word outside" if odd.casefold() in OUTSIDE_ELSEWHERE else "write all in one form"
    if tags[odd].words == 1 and tags[odd].where.endswith(" line 1"):
        advice = "take the line out if it has the names of columns"
    raise command.UserError(
        f"{_place(odd, tags)}, which does not mark an entity as {fit!r} does; {advice}, or give "
        f"--config.data.scheme={WORDS} to learn every tag as it is"
    )


def _check_nested(scheme: Scheme, tags: Mapping[str, Seen]) -> None:
    """Raises UserError for tags of several entities at one word, which would be a type of their own."""
    form = NESTED_SUFFIX if scheme.form == "suffix" else NESTED
    if scheme.form != WORDS and (nested := [tag for tag in tags if form.search(tag)]):
        raise command.UserError(
            f"{_place(nested[0], tags)}, which marks several entities; keep one tag a word, or give "
            f"--config.data.scheme={WORDS} to learn every tag as it is"
        )


def _check_letters(inner: list[str], tags: Mapping[str, Seen]) -> None:
    """Raises UserError for tags of no scheme that look as if a change of letters put them into one."""
    lower = [tag for tag in inner if PREFIX.fullmatch(tag[:1].upper() + tag[1:]) or tag in ("b", "i")]
    if lower and len(lower) >= len(inner) - 1:  # "o" may be the other
        raise command.UserError(
            f"{_place(lower[0], tags)}, whose mark is a small letter; write {lower[0][0].upper()}{lower[0][1:]}, and "
            f"{OUTSIDE} for a word outside, or give --config.data.scheme={WORDS} to learn every tag as it is"
        )
    if broken := [tag for tag in inner if "(" in tag and "*" in tag]:
        raise command.UserError(f"{_place(broken[0], tags)}, which nests entities; keep one level of them")
    commonest = max(inner, key=lambda tag: tags[tag].words)
    if OUTSIDE not in tags and commonest.casefold() in OUTSIDE_ELSEWHERE:
        raise command.UserError(
            f"{_place(commonest, tags)}, more than any other; write {OUTSIDE} if it means a word outside, or give "
            f"--config.data.scheme={WORDS} to learn every tag as it is"
        )


def _check_types(scheme: Scheme, tags: Mapping[str, Seen]) -> None:
    """Raises UserError for two types that are one but for case or Unicode form, which nobody means to be two."""
    known: dict[str, tuple[str, str]] = {}
    for tag in tags:
        kind = parsed.type if (parsed := scheme.parse(tag)) else ""
        other, first = known.setdefault(unicodedata.normalize("NFKC", kind).casefold(), (kind, tag))
        if other != kind:
            raise command.UserError(
                f"{_place(tag, tags)}, and {_place(first, tags)}, which differ only by case or Unicode form; write "
                "them alike"
            )


def _place(tag: str, tags: Mapping[str, Seen]) -> str:
    count, where = tags[tag]
    return f"{where} has the tag {tag!r} ({count:,} {'word' if count == 1 else 'words'})"


def from_brackets(column: list[str]) -> list[str] | None:
    """Returns IOB2 tags for the bracket tags of one sentence; None if one of them has another form, or is nested."""
    kind, tags = "", []
    for cell in column:
        match = BRACKETS.fullmatch(cell)
        if not match or not cell or (match[1] and kind) or (match[3] and not (match[1] or kind)):
            return None
        opened = match[1] or ""
        tags.append(f"B-{opened}" if opened else f"I-{kind}" if kind else OUTSIDE)
        kind = "" if match[3] else opened or kind
    return tags
