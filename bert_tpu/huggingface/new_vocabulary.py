"""Gives a model another vocabulary: the row of each new piece comes from the model's own pieces of the same text.

A piece that both vocabularies have keeps its row. Another gets the mean of the rows of the pieces into which the old
tokenizer divides its text (Gee et al. 2022, "Fast Vocabulary Transfer for Language Model Compression", EMNLP Industry
Track, arXiv:2402.09977). A piece that continues a word, such as "##ing", is divided into such pieces alone, because it
never begins a word. Special pieces are matched by what they are for. Biases of the MLM head are treated like rows.
"""

from collections.abc import Iterator
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import tokenizers

from bert_tpu.huggingface import hf
from bert_tpu.model import layers
from bert_tpu.tokenizer import vocab

ROWS = ("mean", "copied", "random")
UNUSED = re.compile(r"\[unused\d+\]")  # it stands for no text


class Counts(NamedTuple):
    """Numbers of new pieces, by where their rows come from."""

    copied: int  # pieces of both vocabularies
    averaged: int  # means of several old pieces, or one old piece with the same text
    none: int  # pieces whose text has no old piece; they get the mean of all old rows


def transfer(model: hf.Pretrained, new: vocab.Vocab, rows: str = "mean") -> tuple[hf.Pretrained, Counts]:
    """Returns `model` with the vocabulary `new`, and where its rows come from.

    rows: "mean", as above. The others are for comparisons: "copied" draws the rows of all pieces that the old
        vocabulary lacks as a fresh model does, "random" those of all pieces; their biases are 0.
    """
    sources = find_sources(model.vocab, new)
    ids = {piece: i for i, piece in enumerate(model.vocab.pieces)}
    is_copied = [source == (ids.get(piece),) for piece, source in zip(new.pieces, sources, strict=True)]
    is_copied = [copied or i in vocab.ids(new) for i, copied in enumerate(is_copied)]
    counts = Counts(
        copied=sum(is_copied),
        averaged=sum(bool(source) and not copied for source, copied in zip(sources, is_copied, strict=True)),
        none=sum(not source for source in sources),
    )
    keep = {"mean": [True] * len(sources), "copied": is_copied, "random": [False] * len(sources)}[rows]
    word_VD = model.params["embeddings"]["word"]
    fresh_VD = np.asarray(layers.INIT(jax.random.key(0), (len(sources), word_VD.shape[1])))
    word = np.where(np.array(keep)[:, None], _means(word_VD, sources), fresh_VD)
    params: dict[str, Any] = model.params | {"embeddings": model.params["embeddings"] | {"word": word}}
    if "mlm" in params:
        bias = np.where(keep, _means(params["mlm"]["bias"], sources), np.float32(0))
        params["mlm"] = params["mlm"] | {"bias": bias}
    section = model.model | {"vocab_size": len(new.pieces)}
    return hf.Pretrained(params, section, new, model.absent), counts


def find_sources(old: vocab.Vocab, new: vocab.Vocab) -> list[tuple[int, ...]]:
    """Returns, for each piece of `new`, the ids of its old pieces; () if its text has none."""
    ids = {piece: i for i, piece in enumerate(old.pieces)}
    roles = dict(zip(vocab.ids(new), vocab.ids(old), strict=True))
    tokenizer, unknown = vocab.tokenizer(old), vocab.ids(old).unk
    sources: list[tuple[int, ...]] = []
    for i, piece in enumerate(new.pieces):
        if i in roles:
            sources.append((roles[i],))
        elif piece in ids:
            sources.append((ids[piece],))
        elif UNUSED.fullmatch(piece):
            sources.append(())
        else:
            found = _divide(piece, tokenizer, ids)
            sources.append(tuple(i for i in found if i != unknown))
    return sources


def _divide(piece: str, tokenizer: tokenizers.Tokenizer, ids: dict[str, int]) -> list[int]:
    """Returns the ids of the old pieces of a new piece's text."""
    text = piece.removeprefix("##")
    if text == piece:
        return tokenizer.encode(text, add_special_tokens=False).ids
    rules, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    normal = rules.normalize_str(text) if rules else text
    words = [word for word, _ in splitter.pre_tokenize_str(normal)]
    found: list[int] = []
    for number, word in enumerate(words):
        # Punctuation and Chinese characters are words of their own, even after letters.
        inner = list(_continue(word, ids)) if number == 0 else []
        found += inner or tokenizer.encode(word, add_special_tokens=False).ids
    return found


def _continue(word: str, ids: dict[str, int]) -> Iterator[int]:
    """Yields the ids of "##" pieces, the longest first as WordPiece takes them; of none if they do not cover `word`."""
    found, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        end = next((end for end in ends if f"##{word[start:end]}" in ids), None)
        if end is None:
            return
        found.append(ids[f"##{word[start:end]}"])
        start = end
    yield from found


def _means(table: np.ndarray, sources: list[tuple[int, ...]]) -> np.ndarray:
    """Returns the mean of the rows of `table` that each of `sources` names, and of all rows where it names none."""
    table = np.asarray(table)  # a checkpoint's is on a device
    everywhere = table.mean(0, dtype=np.float64)
    means = (table[list(source)].mean(0, dtype=np.float64) if source else everywhere for source in sources)
    return np.stack([np.asarray(mean, table.dtype) for mean in means])
