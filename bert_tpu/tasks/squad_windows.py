"""Windows over contexts: [CLS] question [SEP] piece of the context [SEP], and where the answer is in each."""

from collections.abc import Iterator
from typing import NamedTuple
import unicodedata

import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.tasks import squad_file
from bert_tpu.tokenizer import vocab


class Windows(NamedTuple):
    """Rows, and which characters of a context their tokens are. A question's rows follow one another."""

    rows: token_rows.Rows
    questions: np.ndarray  # int64 [N], the question of each row: 0, 1, ... in the file's order
    begins: np.ndarray  # int64 [N], the place of the row's first token of context; the last is at its length - 2
    firsts: np.ndarray  # int64 [N], the index of that token in `offsets`
    offsets: np.ndarray  # int32 [tokens of all contexts, 2], a token's first character in its context and its stop

    def characters(self, rows, first, last) -> tuple[np.ndarray, np.ndarray]:
        """Start and stop in their contexts of the text from place `first` to place `last` of each row."""
        shift = self.firsts[rows] - self.begins[rows]
        return self.offsets[first + shift, 0], self.offsets[last + shift, 1]


class _Row(NamedTuple):
    ids: np.ndarray
    begin: int
    first: int
    question: int
    span: tuple[int, int]


def make(
    paragraphs: list[squad_file.Paragraph],
    *,
    path: str,
    vocabulary: vocab.Vocab,
    max_length: int,
    doc_stride: int,
    max_query_length: int,
) -> Windows:
    """Every question before every piece of its context, as run_squad.py of google-research/bert makes them.

    A question is cut to `max_query_length` pieces; a window begins `doc_stride` tokens of context behind the one
    before it, and the last holds the context's end. A row's label is the places of its question's first answer, 0
    and 0, those of [CLS], where the window does not hold all of it. An answer is all tokens that share a character
    with it: the original takes whole words split at white space.

    Raises UserError, naming `path`, where a question leaves no room or less than `doc_stride`, a context has no token
    or an answer none.
    """
    tokenizer, special = vocab.tokenizer(vocabulary), vocab.ids(vocabulary)
    sep = np.array([special.sep], np.uint16)
    rows, offsets, read, question = [], [], 0, 0
    for paragraph in paragraphs:
        texts = [paragraph.context, *(q.text for q in paragraph.questions)]
        context, *asked = tokenizer.encode_batch(texts, add_special_tokens=False)
        ids, places = np.array(context.ids, np.uint16), _offsets(paragraph.context, context)
        for q, encoding in zip(paragraph.questions, asked, strict=True):
            head = np.array([special.cls, *encoding.ids[:max_query_length], special.sep], np.uint16)
            where, room = f"{path}: question {q.id}", max_length - len(head) - 1
            _check_room(where, room, max_length=max_length, doc_stride=doc_stride)
            answer = _answer(where, q, places)
            for start, stop in pieces(len(ids), room, doc_stride):
                row = np.concatenate([head, ids[start:stop], sep])
                inside = answer and start <= answer[0] and answer[1] < stop
                span = tuple(place - start + len(head) for place in answer) if inside else (0, 0)
                rows.append(_Row(row, len(head), read + start, question, span))
            question += 1
        offsets.append(places)
        read += len(places)
    return _joined(rows, offsets)


def pieces(length: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Start and stop of pieces of at most `room` tokens that cover `length` tokens, `stride` <= room apart."""
    start = 0
    while start + room < length:
        yield start, start + room
        start += stride
    yield start, length


def _joined(rows, offsets):
    lengths = np.array([len(row.ids) for row in rows])
    begins = np.array([row.begin for row in rows])
    starts = np.concatenate([[0], lengths.cumsum()])
    inside = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    return Windows(
        token_rows.Rows(
            ids=np.concatenate([row.ids for row in rows]),
            types=(inside >= np.repeat(begins, lengths)).astype(np.uint8),
            starts=starts,
            labels=np.array([row.span for row in rows], np.int32),
        ),
        questions=np.array([row.question for row in rows]),
        begins=begins,
        firsts=np.array([row.first for row in rows]),
        offsets=np.concatenate(offsets),
    )


def _offsets(text, encoding):
    """Characters of each token [tokens, 2]. An accent that lowering drops belongs to the letter before it."""
    places = np.array(encoding.offsets, np.int32).reshape(-1, 2)
    if not text.isascii():
        for place in places:
            while place[1] < len(text) and unicodedata.category(text[place[1]]) == "Mn":
                place[1] += 1
    return places


def _answer(where, question, offsets):
    """First and last token of the first answer, None where there is no answer."""
    if not len(offsets):
        raise command.UserError(f"{where} has a context without any token: there is nothing to answer from")
    if not question.answers:
        return None
    text, start = question.answers[0]
    # Both columns ascend: no letter's pieces come before those of the letters before it.
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], start + len(text), side="left")) - 1
    if first > last:
        raise command.UserError(f"{where} has the answer {text[:80]!r}, of which the tokenizer keeps nothing: mend it")
    return first, last


def _check_room(where, room, *, max_length, doc_stride):
    if room < 1:
        raise command.UserError(
            f"{where} leaves no token of max_length {max_length} to its context: "
            "set max_query_length lower or max_length higher"
        )
    if room < doc_stride:
        raise command.UserError(
            f"{where} leaves {room} tokens of max_length {max_length} to its context, and windows doc_stride "
            f"{doc_stride} apart would leave some out: set doc_stride to at most {room} or max_query_length lower"
        )
