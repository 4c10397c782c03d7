"""Reads named entities, or another tag for each word, and scores them by whole entities or by words."""

import itertools
from pathlib import Path
from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.readers import tfds
from bert_tpu.tasks import ner_notes, tag_schemes, tag_scores, tagged
from bert_tpu.tasks.tag_schemes import OUTSIDE
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

NOTHING = "_"  # written for a word without a prediction, if O is not a class
HERE = "this folder"


class Split(NamedTuple):
    """An encoded split. `words` and `first_tokens` have one array for each sentence."""

    sentences: tagged.Sentences
    rows: token_rows.Rows
    words: list[np.ndarray]  # which words have a token
    first_tokens: list[np.ndarray]  # position of each such word's first token among all tokens of the split
    reach: ner_notes.Reach


def load(
    *,
    dir: str,
    train: str,
    validation: str,
    test: str,
    max_length: int,
    vocabulary: vocab.Vocab,
    word_column: str = "",
    tag_column: str = "",
    scheme: str = "",
) -> Task:
    """Returns the task of three files or three splits of TFDS. Raises UserError if data are missing or wrong.

    A line of a file is a word, and a blank line ends a sentence; JSON has lists of words and tags. `notes` of the task
    say how each file was read. A test file of words alone is only predicted, one with tags is also scored. The classes
    are the tags of train in the order of their characters. Entities are scored by whole entities, other tags by word.
    A tag that only validation or test has is scored: no prediction can equal it, except as a part of an entity whose
    type train has.

    The model learns a word's tag at its first token. It never sees words without any token, nor words after the first
    max_length tokens of a sentence; they count as predicted O, or as wrong without a class O, in scores and in files.

    dir: a folder, or tfds:conll2003; "" if the names are paths
    train, validation, test: names of files or splits, "" for one that does not exist
    max_length: tokens of the longest row
    word_column, tag_column: numbers from 1, or names, of the columns; keys of JSON or features of TFDS; "" to find them
    scheme: "words" if no tag marks an entity, though it looks so; "" to find out
    """
    if not train:
        raise command.UserError("a task needs a train split; give --config.data.train=NAME")
    if not dir:
        _check_paths({"train": train, "validation": validation, "test": test})
    token_rows.check(max_length)
    sentences = _read(dir, {"train": train, "validation": validation, "test": test}, word_column, tag_column)
    places = sentences["train"].places()
    if len(places) < 2:
        raise command.UserError(
            f"{dir or HERE} has only the tag {next(iter(places))!r} in {train}, and nothing to learn; check the file "
            "and --config.data.tag_column"
        )
    tags, form = sorted(places), tag_schemes.find(places, scheme)
    for split, part in sentences.items():
        if split != "train":
            form.check(part.places(), places)
    splits = {split: _encode(part, tags, max_length, vocabulary) for split, part in sentences.items()}
    judge = _Judge(splits, tags, form)
    return Task(
        name="ner",
        head="tag",
        labels=tuple(tags),
        splits={name: split.rows for name, split in splits.items()},
        eval_splits=tuple(split for split, part in sentences.items() if split != "train" and part.tags is not None),
        score=judge.score,
        write=judge.write,
        bootstrap=judge.bootstrap,
        notes=tuple(ner_notes.notes(sentences, form, {name: split.reach for name, split in splits.items()})),
    )


def _check_paths(paths: dict[str, str]) -> None:
    """Raises UserError if splits without a folder are not files."""
    if not epath.Path(paths["train"]).is_file():
        raise command.UserError(
            "no data: give --config.data.dir=DIR, a folder of CoNLL's columns, or tfds:conll2003, or a path as "
            f"--config.data.train, which has {paths['train']!r}, not a file"
        )
    for split, path in paths.items():
        if path and not epath.Path(path).is_file():
            raise command.UserError(
                f"there is no file {path}, which is looked up here without --config.data.dir; give the path of another "
                f"as --config.data.{split}, or --config.data.{split}= if there is none"
            )


def _read(folder: str, names: dict[str, str], word: str, tag: str) -> dict[str, tagged.Sentences]:
    """Returns the sentences of each split with a name. Raises UserError for a split without any, or without tags."""
    names = {split: name for split, name in names.items() if name}
    read = tagged.from_tfds if folder.startswith(tfds.PREFIX) else tagged.from_files
    sentences = read(folder, names, word, tag)
    for split, part in sentences.items():
        if not part.words:
            raise command.UserError(f"{folder or HERE} has no sentences in {names[split]}; fetch or make it again")
        if part.tags is None and split != "test":
            raise command.UserError(
                f"{folder or HERE} has no tags in {names[split]}; each line needs a word and its tag"
            )
    return sentences


def _encode(sentences: tagged.Sentences, classes: list[str], max_length: int, vocabulary: vocab.Vocab) -> Split:
    """Encodes rows [CLS] words [SEP] of type 0. Each word's first token has its label, all others have IGNORED."""
    tokenizer, special = vocab.tokenizer(vocabulary), vocab.ids(vocabulary)
    known = sorted(set(itertools.chain.from_iterable(sentences.words)))
    pieces = dict(zip(known, (encoding.ids for encoding in tokenizer.encode_batch_fast(known)), strict=True))
    dtype = vocab.id_dtype(vocabulary)
    rows, starts, seen, first_tokens, cut = [], [0], [], [], []
    for words in sentences.words:
        lengths = np.array([len(pieces[word]) for word in words])
        firsts = np.cumsum(lengths) - lengths
        seen.append(np.flatnonzero((lengths > 0) & (firsts < max_length - 2)))
        cut.append(np.flatnonzero((lengths > 0) & (firsts >= max_length - 2)))
        first_tokens.append(starts[-1] + 1 + firsts[seen[-1]])
        row = list(itertools.chain.from_iterable(pieces[word] for word in words))[: max_length - 2]
        rows.append(np.array([special.cls, *row, special.sep], dtype))
        starts.append(starts[-1] + len(row) + 2)
    labels = np.full(starts[-1], token_rows.IGNORED, np.int32)
    if sentences.tags is not None:
        # A tag that train does not have is IGNORED too; only scores need it, and they compare texts.
        numbers = {tag: i for i, tag in enumerate(classes)}
        for tags, words_seen, places in zip(sentences.tags, seen, first_tokens, strict=True):
            labels[places] = np.array([numbers.get(tag, token_rows.IGNORED) for tag in tags])[words_seen]
    ids = np.concatenate(rows)
    lost = np.array([sum(len(pieces[word]) for word in words) for words in sentences.words]) + 2 - np.diff(starts)
    encoded = token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.array(starts, np.int64), labels, lost)
    return Split(sentences, encoded, seen, first_tokens, ner_notes.Reach(max_length, cut, seen))


class _Judge(NamedTuple):
    """Scores and writes the outputs of a task's models."""

    splits: dict[str, Split]
    classes: list[str]
    scheme: tag_schemes.Scheme

    def score(self, name: str, outputs: np.ndarray) -> dict[str, float]:
        """Returns the scores of `_scores` on a split."""
        return {metric: float(value) for metric, value in self._scores(self._counts(name, outputs).sum(0)).items()}

    def bootstrap(self, name: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the scores of `score`, which are ratios of sums over sentences, for draws of sentences."""
        drawn = [self._scores(tag_scores.draws(self._counts(name, values))) for values in outputs]
        return {metric: np.stack([scores[metric] for scores in drawn], axis=1) for metric in drawn[0]}

    def write(self, name: str, outputs: np.ndarray, folder: Path) -> None:
        """Writes SPLIT.txt: a word and its predicted tag a line, and a blank line after each sentence."""
        words, predictions = self.splits[name].sentences.words, self._predictions(name, outputs)
        space = "\t" if any(" " in word for sentence in words for word in sentence) else " "
        text = "".join(
            "".join(f"{word}{space}{tag or NOTHING}\n" for word, tag in zip(*sentence, strict=True)) + "\n"
            for sentence in zip(words, predictions, strict=True)
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")

    def _predictions(self, name: str, outputs: np.ndarray) -> list[list[str | None]]:
        """Returns the predicted tag of every word, by sentence; O or, without that class, None for words not seen."""
        split, best = self.splits[name], outputs.argmax(1)
        blank = OUTSIDE if OUTSIDE in self.classes else None
        predictions = []
        for words, seen, places in zip(split.sentences.words, split.words, split.first_tokens, strict=True):
            tags: list[str | None] = [blank] * len(words)
            for word, place in zip(seen, places, strict=True):
                tags[word] = self.classes[best[place]]
            predictions.append(tags)
        return predictions

    def _counts(self, name: str, outputs: np.ndarray) -> np.ndarray:
        """Returns `tag_scores.word_counts`, or `entity_counts` if tags mark entities, of each sentence."""
        truth, predictions = self.splits[name].sentences.tags or [], self._predictions(name, outputs)
        if self.scheme.form == tag_schemes.WORDS:
            return tag_scores.word_counts(truth, predictions)
        entities = self.scheme.entities
        return tag_scores.entity_counts(list(map(entities, truth)), list(map(entities, predictions)))

    def _scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Returns scores from sums over sentences; the last axes are as in `_counts`."""
        if self.scheme.form == tag_schemes.WORDS:
            return tag_scores.word_scores(sums, has_outside=OUTSIDE in self.classes)
        return tag_scores.entity_scores(sums)
