"""Text to token ids, encoding each distinct word once."""

import array
import itertools

from bert_tpu.tokenizer import added_tokens, long_words, normalization, vocab

MEMO_CHARS = 1 << 22  # of remembered words: about 500,000 words, 100 MB
LONG = 1000  # characters: longer words, as of base64 or code, are not remembered


class Encoder:
    """Texts to ids, encoding each distinct word once.

    BERT's rules never look past a space, so the ids of a sentence are those of its words. 93% of Wikipedia's words were
    seen before, so this takes half the time of encoding whole sentences. Sentences are encoded whole where the
    vocabulary has added tokens that white space belongs to.
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
        for word, code in zip(new, self._ids(new), strict=True):
            memo[word] = code
        self._memo_chars += sum(map(len, new))
        if long:
            return [b"".join(long[word] if len(word) > LONG else memo[word] for word in text) for text in words]
        ids = memo.__getitem__
        return [b"".join(map(ids, text)) for text in words]

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
