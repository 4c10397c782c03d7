"""Windows over contexts: [CLS] question [SEP] part of the context [SEP], with the place of the answer in each."""

from collections.abc import Iterator
from typing import NamedTuple
import unicodedata

import numpy as np
import tokenizers

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.tasks import squad_file
from bert_tpu.tokenizer import vocab


class Windows(NamedTuple):
    """Rows, and the characters of the context that their tokens are. The rows of a question are consecutive."""

    rows: token_rows.Rows
    questions: np.ndarray  # int64 [N], the question of each row: 0, 1, ... in the order of the file
    context_places: np.ndarray  # int64 [N], place in the row of its first context token; the last is at length - 2
    context_tokens: np.ndarray  # int64 [N], index of that token in `offsets`
    offsets: np.ndarray  # int32 [tokens of all contexts, 2], first character of a token in its context, and its stop
    cut_questions: int = 0  # that lost tokens

    def characters(self, rows: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns start and stop, in their contexts, of the text from place `first` to place `last` of each row."""
        shift = self.context_tokens[rows] - self.context_places[rows]
        return self.offsets[first + shift, 0], self.offsets[last + shift, 1]


SHORTEST, LONGEST = 8, 512  # max_length; BERT has 512 positions


class _Row(NamedTuple):
    ids: np.ndarray
    context_place: int
    context_token: int
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
    """Returns windows with every question before every part of its context, as run_squad.py of google-research/bert.

    The last window has the end of the context. A row's label is the places of its question's first answer, or 0 and 0,
    those of [CLS], if the window lacks a part of it. An answer is all tokens that share a character with it; the
    original takes whole words, split at white space.

    Raises UserError if a question leaves no room, or less than `doc_stride`, and if a context or answer has no token.

    path: the file's name in error messages
    max_length: tokens of a window
    doc_stride: context tokens from the start of a window to the start of the next one
    max_query_length: tokens of a question; the rest is cut off
    """
    tokenizer, special = vocab.tokenizer(vocabulary), vocab.ids(vocabulary)
    dtype = vocab.id_dtype(vocabulary)
    sep = np.array([special.sep], dtype)
    rows, offsets, num_tokens, number, cut_questions = [], [], 0, 0, 0
    tightest = (max_length, "")  # room, and the question that leaves it
    for paragraph in paragraphs:
        texts = [paragraph.context, *(q.text for q in paragraph.questions)]
        context, *encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        ids, places = np.array(context.ids, dtype), _offsets(paragraph.context, context)
        for question, encoding in zip(paragraph.questions, encodings, strict=True):
            head = np.array([special.cls, *encoding.ids[:max_query_length], special.sep], dtype)
            where, room = f"{path}: question {question.id}", max_length - len(head) - 1
            tightest = min(tightest, (room, where), key=lambda pair: pair[0])
            if room < doc_stride:
                continue
            answer = _answer(where, question, places)
            for start, stop in cut(len(ids), room, doc_stride):
                row = np.concatenate([head, ids[start:stop], sep])
                span = (0, 0)
                if answer is not None and start <= answer[0] and answer[1] < stop:
                    span = (answer[0] - start + len(head), answer[1] - start + len(head))
                rows.append(_Row(row, len(head), num_tokens + start, number, span))
            number += 1
            cut_questions += len(encoding.ids) > max_query_length
        offsets.append(places)
        num_tokens += len(places)
    _check_room(*tightest, max_length=max_length, doc_stride=doc_stride)
    return _join(rows, offsets)._replace(cut_questions=cut_questions)


def cut(length: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yields start and stop of parts that cover `length` tokens: at most `room` tokens each, `stride` <= room apart."""
    start = 0
    while start + room < length:
        yield start, start + room
        start += stride
    yield start, length


def _join(rows: list[_Row], offsets: list[np.ndarray]) -> Windows:
    lengths = np.array([len(row.ids) for row in rows])
    context_places = np.array([row.context_place for row in rows])
    starts = np.concatenate([[0], lengths.cumsum()])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    return Windows(
        token_rows.Rows(
            ids=np.concatenate([row.ids for row in rows]),
            types=(places >= np.repeat(context_places, lengths)).astype(np.uint8),
            starts=starts,
            labels=np.array([row.span for row in rows], np.int32),
        ),
        questions=np.array([row.question for row in rows]),
        context_places=context_places,
        context_tokens=np.array([row.context_token for row in rows]),
        offsets=np.concatenate(offsets),
    )


def _offsets(text: str, encoding: tokenizers.Encoding) -> np.ndarray:
    """Returns start and stop of each token [tokens, 2]. A dropped accent belongs to its letter."""
    places = np.array(encoding.offsets, np.int32).reshape(-1, 2)
    if not text.isascii():
        for place in places:
            while place[1] < len(text) and unicodedata.category(text[place[1]]) == "Mn":
                place[1] += 1
    return places


def _answer(where: str, question: squad_file.Question, offsets: np.ndarray) -> tuple[int, int] | None:
    """Returns the first and last token of the first answer that has a place; None if there is none."""
    if not len(offsets):
        raise command.UserError(f"{where} has a context without any token: take the question out")
    placed = [answer for answer in question.answers if answer.start != squad_file.NOWHERE]
    if not placed:
        return None
    text, start = placed[0]
    # Both columns ascend: the tokens of a letter come after those of the letters before it.
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], start + len(text), side="left")) - 1
    if first > last:
        raise command.UserError(f"{where} has the answer {text[:80]!r}, of which the tokenizer keeps nothing: fix it")
    return first, last


def _check_room(room: int, where: str, *, max_length: int, doc_stride: int) -> None:
    """Raises UserError, with the flags that help all questions, if the tightest one leaves less than `doc_stride`.

    room: tokens that it leaves to its context
    where: file and name of the question
    """
    if room >= doc_stride:
        return
    flags = {
        "doc_stride": room,
        "max_query_length": max_length - 3 - doc_stride,  # [CLS] question [SEP] context [SEP]
    }
    choices = [f"--config.data.{name}={value}" for name, value in flags.items() if value > 0]
    choices += [f"--config.max_length={longer}"] if (longer := max_length - room + doc_stride) <= LONGEST else []
    raise command.UserError(
        f"{where} leaves {max(room, 0)} tokens of max_length {max_length} to its context, and windows doc_stride "
        f"{doc_stride} apart would leave some out: give {' or '.join(choices)}"
    )
