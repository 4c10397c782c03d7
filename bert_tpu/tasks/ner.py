"""Named entities: a tag a word, from files of CoNLL's columns or TFDS, judged by whole entities."""

from collections.abc import Iterator
import functools
import itertools
from pathlib import Path
from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.readers import tabular, tfds
from bert_tpu.tasks import metrics, task
from bert_tpu.tokenizer import vocab

OUTSIDE = "O"
ENTITY = ("B-", "I-", "E-", "S-")  # begins, goes on, ends, is all of it: IOB1, IOB2 and IOBES, as seqeval reads them
DOCUMENT = "-DOCSTART-"  # CoNLL-2003's line between documents, a sentence of its own


class Sentences(NamedTuple):
    """A split as it was read."""

    words: list[list[str]]
    tags: list[list[str]] | None  # None where a test split has none
    where: str  # "train.txt line", for complaints, with
    numbers: list[list[int]]  # of each word


class Part(NamedTuple):
    """A split, and which of its tokens stands for which word."""

    sentences: Sentences
    rows: token_rows.Rows
    heads: list[np.ndarray]  # of each sentence, its words that have a token
    tokens: list[np.ndarray]  # and where among all tokens that word's first is


def load(*, dir: str, train: str, validation: str, test: str, max_length: int, vocabulary: vocab.Vocab) -> task.Task:
    """The task of three files in the folder `dir`, or three splits of tfds:conll2003; "" for one that there is not.

    A line of a file is a word, in its first column, and its tag in the last, and all have as many columns; blank lines
    end sentences, -DOCSTART- is none. A test file of words alone is predicted, one with tags judged as well. The
    classes are the tags of train in the order of their characters. A word's tag is learnt at its first token. Words of
    a sentence beyond max_length tokens, and words without any token, are never seen and count as predicted O, in
    scores and in files. Raises UserError where data are missing or wrong.
    """
    if not dir:
        raise command.UserError("no data: give --config.data.dir=DIR, a folder of CoNLL's columns, or tfds:conll2003")
    if not train:
        raise command.UserError("a task needs a train split; name it")
    token_rows.check(max_length)
    _require()
    names = {split: name for split, name in (("train", train), ("validation", validation), ("test", test)) if name}
    found = _from_tfds(dir, names) if dir.startswith(tfds.PREFIX) else _from_files(dir, names)
    for split, sentences in found.items():
        if not sentences.words:
            raise command.UserError(f"{dir} has no sentences in {names[split]}; fetch or make it again")
        if sentences.tags is None and split != "test":
            raise command.UserError(f"{dir} has no tags in {names[split]}; each line needs a word and its tag")
    classes = tuple(sorted(set(itertools.chain.from_iterable(found["train"].tags))))
    if other := [tag for tag in classes if tag != OUTSIDE and not tag.startswith(ENTITY)]:
        raise command.UserError(
            f"{dir} has the tag {other[0]!r} in {train}; an entity's begins with {' '.join(ENTITY)}"
        )
    parts = {
        split: _part(sentences, classes, max_length=max_length, vocabulary=vocabulary)
        for split, sentences in found.items()
    }
    return task.Task(
        "ner",
        "tag",
        classes,
        {split: part.rows for split, part in parts.items()},
        tuple(split for split, sentences in found.items() if split != "train" and sentences.tags is not None),
        functools.partial(_score, parts, classes),
        functools.partial(_write, parts, classes),
        functools.partial(_draws, parts, classes),
    )


def _require() -> None:
    command.require("scoring entities", "seqeval", extra="finetune")


def _from_files(dir: str, names: dict[str, str]) -> dict[str, Sentences]:
    found = {}
    for split, name in names.items():
        path = epath.Path(dir) / name
        sentences = list(_conll(tabular.text(path), path))
        # Of a file's width, one line speaks for all: a mixture is complained of while it is read.
        is_tagged = bool(sentences) and len(sentences[0][0][1]) > 1
        found[split] = Sentences(
            [[cells[0] for _, cells in sentence] for sentence in sentences],
            [[cells[-1] for _, cells in sentence] for sentence in sentences] if is_tagged else None,
            f"{path} line",
            [[number for number, _ in sentence] for sentence in sentences],
        )
    return found


def _conll(content: str, path: Path) -> Iterator[list[tuple[int, list[str]]]]:
    """Sentences of (line, columns); spaces and tabs divide columns, as for conlleval, and not U+00A0 and the like."""
    sentence, width = [], 0
    for number, line in itertools.chain(tabular.lines(content), [(0, "")]):
        cells = [cell for cell in line.replace("\t", " ").split(" ") if cell]
        if cells and cells[0] != DOCUMENT:
            width = width or len(cells)
            if len(cells) != width:
                raise command.UserError(
                    f"{path} line {number} has another number of columns ({len(cells)}) than those before it "
                    f"({width}); mend it"
                )
            sentence.append((number, cells))
        elif sentence:
            yield sentence
            sentence = []


def _from_tfds(name: str, names: dict[str, str]) -> dict[str, Sentences]:
    splits = tfds.tables(name, ("tokens", "ner"))
    if missing := [split for split in names.values() if split not in splits]:
        raise command.UserError(f"{name} has no split {missing[0]!r} but {', '.join(splits)}")
    found = {}
    for split, ours in names.items():
        words, tags = splits[ours]["tokens"], splits[ours]["ner"]
        kept = [i for i, sentence in enumerate(words) if sentence and sentence[0] != DOCUMENT]
        is_tagged = all(tag is not None for i in kept for tag in tags[i])
        found[split] = Sentences(
            [words[i] for i in kept],
            [tags[i] for i in kept] if is_tagged else None,
            f"{name} {ours} sentence",
            [[i] * len(words[i]) for i in kept],
        )
    return found


def _part(sentences: Sentences, classes: tuple[str, ...], *, max_length: int, vocabulary: vocab.Vocab) -> Part:
    """The rows of a split: [CLS] words [SEP], types 0, a label on each word's first token, IGNORED on all others."""
    made, special = vocab.tokenizer(vocabulary), vocab.ids(vocabulary)
    known = sorted(set(itertools.chain.from_iterable(sentences.words)))
    pieces = dict(zip(known, (encoding.ids for encoding in made.encode_batch_fast(known)), strict=True))
    ids, starts, heads, tokens = [], [0], [], []
    for words in sentences.words:
        lengths = np.array([len(pieces[word]) for word in words])
        firsts = np.cumsum(lengths) - lengths
        seen = np.flatnonzero((lengths > 0) & (firsts < max_length - 2))
        row = list(itertools.chain.from_iterable(pieces[word] for word in words))[: max_length - 2]
        heads.append(seen)
        tokens.append(starts[-1] + 1 + firsts[seen])
        ids.append(np.array([special.cls, *row, special.sep], np.uint16))
        starts.append(starts[-1] + len(row) + 2)
    labels = np.full(starts[-1], token_rows.IGNORED, np.int32)
    if sentences.tags is not None:
        for tags, seen, places in zip(_classes(sentences, classes), heads, tokens, strict=True):
            labels[places] = tags[seen]
    ids = np.concatenate(ids)
    return Part(
        sentences, token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.array(starts, np.int64), labels), heads, tokens
    )


def _classes(sentences: Sentences, classes: tuple[str, ...]) -> Iterator[np.ndarray]:
    """The class of every word, a sentence at a time; raises UserError for one that train has not."""
    places = {tag: i for i, tag in enumerate(classes)}
    for tags, numbers in zip(sentences.tags, sentences.numbers, strict=True):
        for tag, number in zip(tags, numbers, strict=True):
            if tag not in places:
                raise command.UserError(
                    f"{sentences.where} {number} has the tag {tag!r}, which is none of the train split's; mend it"
                )
        yield np.array([places[tag] for tag in tags])


def _tagged(part: Part, classes: tuple[str, ...], outputs: np.ndarray) -> list[list[str]]:
    """The predicted tag of every word."""
    best = outputs.argmax(1)
    found = []
    for words, seen, places in zip(part.sentences.words, part.heads, part.tokens, strict=True):
        tags = [OUTSIDE] * len(words)
        for word, place in zip(seen, places, strict=True):
            tags[word] = classes[best[place]]
        found.append(tags)
    return found


def _score(parts: dict[str, Part], classes: tuple[str, ...], split: str, outputs: np.ndarray) -> dict[str, float]:
    """F1, precision and recall of entities that are right in kind and in both ends, over all kinds together."""
    from seqeval import metrics

    truth, found = parts[split].sentences.tags, _tagged(parts[split], classes, outputs)
    measures = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}
    return {name: float(measure(truth, found, average="micro", zero_division=0)) for name, measure in measures.items()}


def _draws(parts: dict[str, Part], classes: tuple[str, ...], split: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Of sentences drawn anew: the measures of `_score`, which are ratios of sums over them."""
    truth = [_entities(tags) for tags in parts[split].sentences.tags]
    counts = []  # of each sentence: entities that are right, found, and there
    for said in outputs:
        found = map(_entities, _tagged(parts[split], classes, said))
        counts.append([(len(t & f), len(f), len(t)) for t, f in zip(truth, found, strict=True)])
    right, found, there = np.moveaxis(metrics.draws_of_means(np.array(counts, np.float64)), -1, 0)
    parts_of = {"f1": (2 * right, found + there), "precision": (right, found), "recall": (right, there)}
    return {name: part / np.where(whole > 0, whole, 1) for name, (part, whole) in parts_of.items()}


def _entities(tags: list[str]) -> set[tuple[str, int, int]]:
    from seqeval.metrics import sequence_labeling

    return set(sequence_labeling.get_entities(tags))


def _write(parts: dict[str, Part], classes: tuple[str, ...], split: str, outputs: np.ndarray, folder: Path) -> None:
    """SPLIT.txt: a word and its predicted tag a line, and a blank line behind each sentence."""
    tagged = zip(parts[split].sentences.words, _tagged(parts[split], classes, outputs), strict=True)
    text = "".join("".join(f"{w} {t}\n" for w, t in zip(*sentence, strict=True)) + "\n" for sentence in tagged)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text(text, encoding="utf-8")
