"""Reads named entities, a tag for each word, from CoNLL's columns or TFDS, and scores them by whole entities."""

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
from bert_tpu.tasks import metrics
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

OUTSIDE = "O"
ENTITY = ("B-", "I-", "E-", "S-")  # first, inner, last or only word of an entity: IOB1, IOB2 and IOBES, as in seqeval
DOCUMENT = "-DOCSTART-"  # CoNLL-2003's line between documents, which looks like a sentence


class Sentences(NamedTuple):
    """A split, as read."""

    words: list[list[str]]
    tags: list[list[str]] | None  # None in a test split without tags
    source: str  # "train.txt line": the beginning of error messages, followed by a number
    numbers: list[list[int]]  # of each word


class Split(NamedTuple):
    """An encoded split. `words` and `first_tokens` have one array for each sentence."""

    sentences: Sentences
    rows: token_rows.Rows
    words: list[np.ndarray]  # which words have a token
    first_tokens: list[np.ndarray]  # position of each such word's first token among all tokens of the split


def load(*, dir: str, train: str, validation: str, test: str, max_length: int, vocabulary: vocab.Vocab) -> Task:
    """Returns the task of three files or three splits of TFDS. Raises UserError if data are missing or wrong.

    A line of a file is a word, in its first column, and its tag, in its last; all lines have as many columns. Blank
    lines end sentences, and -DOCSTART- is skipped. A test file of words alone is only predicted, one with tags is also
    scored. The classes are the tags of train in the order of their characters.

    The model learns a word's tag at its first token. It never sees words without any token, nor words after the first
    max_length tokens of a sentence; they count as predicted O, in scores and in files.

    dir: a folder, or tfds:conll2003
    train, validation, test: names of files or splits, "" for one that does not exist
    max_length: tokens of the longest row
    """
    if not dir:
        raise command.UserError("no data: give --config.data.dir=DIR, a folder of CoNLL's columns, or tfds:conll2003")
    if not train:
        raise command.UserError("a task needs a train split; give --config.data.train=NAME")
    token_rows.check(max_length)
    command.require("scoring entities", "seqeval", extra="finetune")
    names = {split: name for split, name in (("train", train), ("validation", validation), ("test", test)) if name}
    sentences = _from_tfds(dir, names) if dir.startswith(tfds.PREFIX) else _from_files(dir, names)
    for split, part in sentences.items():
        if not part.words:
            raise command.UserError(f"{dir} has no sentences in {names[split]}; fetch or make it again")
        if part.tags is None and split != "test":
            raise command.UserError(f"{dir} has no tags in {names[split]}; each line needs a word and its tag")
    classes = tuple(sorted(set(itertools.chain.from_iterable(sentences["train"].tags or []))))
    if other := [tag for tag in classes if tag != OUTSIDE and not tag.startswith(ENTITY)]:
        raise command.UserError(
            f"{dir} has the tag {other[0]!r} in {train}; the tag of an entity begins with one of {' '.join(ENTITY)}"
        )
    splits = {
        split: _encode(part, classes, max_length=max_length, vocabulary=vocabulary) for split, part in sentences.items()
    }
    return Task(
        name="ner",
        head="tag",
        labels=classes,
        splits={name: split.rows for name, split in splits.items()},
        eval_splits=tuple(split for split, part in sentences.items() if split != "train" and part.tags is not None),
        score=functools.partial(_score, splits, classes),
        write=functools.partial(_write, splits, classes),
        bootstrap=functools.partial(_bootstrap, splits, classes),
    )


def _from_files(folder: str, names: dict[str, str]) -> dict[str, Sentences]:
    splits = {}
    for split, name in names.items():
        path = epath.Path(folder) / name
        sentences = list(_conll(tabular.text(path), path))
        # The first line's width is that of all: _conll refuses a mixture.
        is_tagged = bool(sentences) and len(sentences[0][0][1]) > 1
        splits[split] = Sentences(
            [[cells[0] for _, cells in sentence] for sentence in sentences],
            [[cells[-1] for _, cells in sentence] for sentence in sentences] if is_tagged else None,
            f"{path} line",
            [[number for number, _ in sentence] for sentence in sentences],
        )
    return splits


def _conll(content: str, path: Path) -> Iterator[list[tuple[int, list[str]]]]:
    """Yields sentences of (line, columns). Only spaces and tabs divide columns, as in conlleval; U+00A0 does not."""
    sentence, width = [], 0
    for number, line in itertools.chain(tabular.lines(content), [(0, "")]):
        cells = [cell for cell in line.replace("\t", " ").split(" ") if cell]
        if cells and cells[0] != DOCUMENT:
            width = width or len(cells)
            if len(cells) != width:
                raise command.UserError(
                    f"{path} line {number} has {len(cells)} columns, but the lines before it have {width}; fix it"
                )
            sentence.append((number, cells))
        elif sentence:
            yield sentence
            sentence = []


def _from_tfds(dataset: str, names: dict[str, str]) -> dict[str, Sentences]:
    tables = tfds.tables(dataset, ("tokens", "ner"))
    if missing := [name for name in names.values() if name not in tables]:
        raise command.UserError(f"{dataset} has no split {missing[0]!r} but {', '.join(tables)}")
    splits = {}
    for split, name in names.items():
        words, tags = tables[name]["tokens"], tables[name]["ner"]
        kept = [i for i, sentence in enumerate(words) if sentence and sentence[0] != DOCUMENT]
        is_tagged = all(tag is not None for i in kept for tag in tags[i])
        splits[split] = Sentences(
            [words[i] for i in kept],
            [tags[i] for i in kept] if is_tagged else None,
            f"{dataset} {name} sentence",
            [[i] * len(words[i]) for i in kept],
        )
    return splits


def _encode(sentences: Sentences, classes: tuple[str, ...], *, max_length: int, vocabulary: vocab.Vocab) -> Split:
    """Encodes rows [CLS] words [SEP] of type 0. Each word's first token has its label, all others have IGNORED."""
    tokenizer, special = vocab.tokenizer(vocabulary), vocab.ids(vocabulary)
    dtype = vocab.id_dtype(vocabulary)
    known = sorted(set(itertools.chain.from_iterable(sentences.words)))
    pieces = dict(zip(known, (encoding.ids for encoding in tokenizer.encode_batch_fast(known)), strict=True))
    rows, starts, seen, first_tokens = [], [0], [], []
    for words in sentences.words:
        lengths = np.array([len(pieces[word]) for word in words])
        firsts = np.cumsum(lengths) - lengths
        seen.append(np.flatnonzero((lengths > 0) & (firsts < max_length - 2)))
        first_tokens.append(starts[-1] + 1 + firsts[seen[-1]])
        row = list(itertools.chain.from_iterable(pieces[word] for word in words))[: max_length - 2]
        rows.append(np.array([special.cls, *row, special.sep], dtype))
        starts.append(starts[-1] + len(row) + 2)
    labels = np.full(starts[-1], token_rows.IGNORED, np.int32)
    if sentences.tags is not None:
        for tags, words_seen, places in zip(_classes(sentences, classes), seen, first_tokens, strict=True):
            labels[places] = tags[words_seen]
    ids = np.concatenate(rows)
    encoded = token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.array(starts, np.int64), labels)
    return Split(sentences, encoded, seen, first_tokens)


def _classes(sentences: Sentences, classes: tuple[str, ...]) -> Iterator[np.ndarray]:
    """Yields the classes of each sentence's words. Raises UserError for a tag that train does not have."""
    ids = {tag: i for i, tag in enumerate(classes)}
    for tags, numbers in zip(sentences.tags or [], sentences.numbers, strict=True):
        for tag, number in zip(tags, numbers, strict=True):
            if tag not in ids:
                raise command.UserError(
                    f"{sentences.source} {number} has the tag {tag!r}, which the train split does not have; fix it"
                )
        yield np.array([ids[tag] for tag in tags])


def _predicted_tags(split: Split, classes: tuple[str, ...], outputs: np.ndarray) -> list[list[str]]:
    """Returns the predicted tag of every word, by sentence."""
    best = outputs.argmax(1)
    predictions = []
    for words, seen, places in zip(split.sentences.words, split.words, split.first_tokens, strict=True):
        tags = [OUTSIDE] * len(words)
        for word, place in zip(seen, places, strict=True):
            tags[word] = classes[best[place]]
        predictions.append(tags)
    return predictions


def _score(splits: dict[str, Split], classes: tuple[str, ...], name: str, outputs: np.ndarray) -> dict[str, float]:
    """Returns F1, precision and recall over entities of all kinds. An entity is right if its kind and both ends are."""
    from seqeval import metrics

    truth, predictions = splits[name].sentences.tags, _predicted_tags(splits[name], classes, outputs)
    functions = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}
    return {
        metric: float(function(truth, predictions, average="micro", zero_division=0))
        for metric, function in functions.items()
    }


def _bootstrap(
    splits: dict[str, Split], classes: tuple[str, ...], name: str, outputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the metrics of `_score`, which are ratios of sums over sentences, for draws of sentences."""
    truth = [_entities(tags) for tags in splits[name].sentences.tags or []]
    counts = []  # for each model and sentence: entities that are correct, that are predicted, that exist
    for values in outputs:
        predictions = map(_entities, _predicted_tags(splits[name], classes, values))
        counts.append([(len(t & p), len(p), len(t)) for t, p in zip(truth, predictions, strict=True)])
    correct, predicted, real = np.moveaxis(metrics.bootstrap_means(np.array(counts, np.float64)), -1, 0)
    ratios = {"f1": (2 * correct, predicted + real), "precision": (correct, predicted), "recall": (correct, real)}
    return {metric: part / np.where(whole > 0, whole, 1) for metric, (part, whole) in ratios.items()}


def _entities(tags: list[str]) -> set[tuple[str, int, int]]:
    from seqeval.metrics import sequence_labeling

    return set(sequence_labeling.get_entities(tags))


def _write(splits: dict[str, Split], classes: tuple[str, ...], name: str, outputs: np.ndarray, folder: Path) -> None:
    """Writes SPLIT.txt: a word and its predicted tag a line, and a blank line after each sentence."""
    tagged = zip(splits[name].sentences.words, _predicted_tags(splits[name], classes, outputs), strict=True)
    text = "".join("".join(f"{w} {t}\n" for w, t in zip(*sentence, strict=True)) + "\n" for sentence in tagged)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")
