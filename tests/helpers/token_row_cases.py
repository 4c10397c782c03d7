"""Random rows of token ids, and a vocabulary of ten letters."""

import numpy as np

from bert_tpu.data import token_rows
from bert_tpu.tokenizer import vocab

LETTERS = "abcdefghij"
VOCABULARY = vocab.Vocab((*vocab.SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS), "[", "]", ".", "cls", "sep"), True)


def rows(number=53, seed=0):
    """Returns `number` rows of 3 to 32 random ids; a row's label is its number."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([3, 7, 8, 9, 20, 32], number, p=[0.4, 0.25, 0.2, 0.1, 0.03, 0.02])
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    ids = rng.integers(1, 1000, starts[-1]).astype(np.uint16)
    return token_rows.Rows(ids, (ids % 2).astype(np.uint8), starts, np.arange(number, dtype=np.int32))


def split(rows):
    """Returns (ids, types) of each row."""
    return [
        (rows.ids[a:b].tolist(), rows.types[a:b].tolist())
        for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True)
    ]
