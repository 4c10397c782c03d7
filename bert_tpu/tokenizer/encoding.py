"""Text to token ids, encoding each distinct word once."""

import array
import itertools
import re

import numpy as np

from bert_tpu.tokenizer import added_tokens, long_words, normalization, vocab

MEMO_CHARS = 1 << 22  # of remembered words: about 500,000 words, 100 MB
LONG = 1000  # characters: longer words, as of base64 or code, are not remembered
RUNS_AT_ONCE = 1000  # runs in one text of the library; a text of one word costs it several times the word
RUNS = re.compile("[0-9A-Za-z]+|[^0-9A-Za-z]")  # the words that BERT makes of printable ASCII without spaces


class Encoder:
    """Texts to ids, encoding each distinct word once.

    BERT's rules never look past a space, so the ids of a sentence are those of its words. 93% of Wikipedia's words were
    seen before. A new word in ASCII is taken apart into runs of letters and digits and single marks, two thirds of
    which were seen before: "River," needs only "river" and ",". Words are encoded whole where the vocabulary has added
    tokens, and sentences where white space belongs to one of these.
    """

    def __init__(self, vocabulary: vocab.Vocab):
        """Starts without remembered words."""
        self.unknown = vocab.ids(vocabulary).unk
        self.tokenizer = vocab.tokenizer(vocabulary)
        self.dtype = vocab.id_dtype(vocabulary)
        self.memo: dict[str, bytes] = {}
        self._memo_chars = 0
        self._by_word = not any(_has_space(vocabulary, token) for token in vocabulary.added)
        # An added token may be found within a long word.
        self._max_chars = None if vocabulary.added else vocabulary.rules.max_chars
        self._lower = vocabulary.lower
        self._begins = np.array([not piece.startswith("##") for piece in vocabulary.pieces])
        # An added token may be found across runs, and [UNK] must not look like the rest of a word.
        self._by_run = not vocabulary.added and bool(self._begins[self.unknown])

    def encode(self, texts: list[str]) -> list[bytes]:
        """The ids of each text as bytes of `dtype`, without special tokens."""
        if not self._by_word:
            return self._ids(texts)
        if self._memo_chars > MEMO_CHARS:
            self.memo, self._memo_chars = {}, 0
        memo = self.memo  # complete during this call, even if another thread of a Beam runner replaces self.memo
        words = [text.split(" ") for text in texts]
        new = list(set(itertools.chain.from_iterable(words)).difference(memo))
        long = {}
        if max(map(len, new), default=0) > LONG:
            long = {word: self._long(word) for word in new if len(word) > LONG}
            new = [word for word in new if len(word) <= LONG]
        self._memo_chars += self._add(new, memo)
        if long:
            return [b"".join(long[word] if len(word) > LONG else memo[word] for word in text) for text in words]
        ids = memo.__getitem__
        return [b"".join(map(ids, text)) for text in words]

    def _add(self, words: list[str], memo: dict[str, bytes]) -> int:
        """Adds the ids of words, and of the runs in them, to `memo`. Returns the number of characters added."""
        if self._by_run:
            is_plain = [word.isascii() and word.isprintable() for word in words]
            plain = list(itertools.compress(words, is_plain))
            parts = list(map(RUNS.findall, map(str.lower, plain) if self._lower else plain))
            runs = list(set(itertools.chain.from_iterable(parts)).difference(memo))
            memo.update(zip(runs, self._run_ids(runs), strict=True))
            ids = memo.__getitem__
            memo.update((word, b"".join(map(ids, part))) for word, part in zip(plain, parts, strict=True))
            others = [word for word, plain in zip(words, is_plain, strict=True) if not plain]
        else:
            runs, others = [], words
        memo.update(zip(others, self._ids(others), strict=True))
        return sum(map(len, words)) + sum(map(len, runs))

    def _run_ids(self, runs: list[str]) -> list[bytes]:
        """The ids of each run. Many are encoded as one text; a run has one piece that begins a word, its first."""
        texts = [" ".join(runs[start : start + RUNS_AT_ONCE]) for start in range(0, len(runs), RUNS_AT_ONCE)]
        codes = b"".join(self._ids(texts))
        starts = np.flatnonzero(self._begins[np.frombuffer(codes, self.dtype)]) * self.dtype.itemsize
        assert len(starts) == len(runs), "each run is one word"
        return [codes[start:stop] for start, stop in itertools.pairwise([*starts.tolist(), len(codes)])]

    def _ids(self, texts: list[str]) -> list[bytes]:
        kind = self.dtype.char
        codes = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [array.array(kind, code.ids).tobytes() for code in codes]

    def _long(self, word: str) -> bytes:
        if self._max_chars is None:
            return self._ids([word])[0]
        return b"".join(self._ids([part])[0] for part in long_words.segments(word, self._max_chars))


def _has_space(vocabulary: vocab.Vocab, token: added_tokens.AddedToken) -> bool:
    """Whether white space may decide if `token` is found, or belong to it."""
    text = token.content
    if token.normalized:
        text += normalization.normalizer(vocabulary.lower, vocabulary.rules).normalize_str(text)
    return token.lstrip or token.rstrip or any(char.isspace() for char in text)
