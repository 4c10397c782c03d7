"""Rows as a user of an export makes them: texts and pairs through transformers' tokenizer of the exported directory."""

from pathlib import Path
from typing import Any

import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.tokenizer import vocab

LONG = "A long sentence, with commas, goes on and on until no model has positions left for it; "  # 20 words
# Capitals, accents, composed and not; scripts with and without spaces; emoji; addresses; white space; long words.
TEXTS = (
    "The cat sat on the mat.",
    "Él comió en un café naïve: ÀÉÎÕÜ, e\u0301te\u0301, Straße, İstanbul, ΟΔΟΣ, ﬁve ①",
    "北京大学 and 東京タワー, 서울, Москва, กรุงเทพ, नमस्ते, שלום",
    "🙂👍🏽👨‍👩‍👧 costs 5€ (100%) at https://a.example/b?c=d#e @you #tag v1.2-3",
    "  two  spaces,\ta tab\u00a0and\u200ba zero-width space ",
    f"{'antidisestablishmentarian' * 4} {'x' * 201}",
)
ADDED = 20  # added tokens that get a text of their own
PAIR = ("Is it a cat?", "Yes, it was a cat.")


def encode(directory: Path, section: dict[str, Any], vocabulary: vocab.Vocab) -> list[dict[str, np.ndarray]]:
    """Returns a batch of one row, int32 [1, L] each, for every text, and for every pair if the model has two segments.

    Raises UserError unless ids, types and mask are those with which the model is used here.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for role, number in vocab.ids(vocabulary)._asdict().items():
        if (theirs_id := getattr(tokenizer, f"{role}_token_id")) != number:
            raise command.UserError(
                f"transformers {transformers.__version__} gives the {role} token the id {theirs_id} and not {number}; "
                "nothing was exported"
            )
    long = LONG * (1 + section["max_positions"] // 10)
    added = [token.content for token in vocabulary.added if token.content not in vocabulary.specials]
    with_added = [f"The {token} sat{token}on,{token}" for token in added[:ADDED]]
    texts: list[tuple[str, ...]] = [(text,) for text in (*TEXTS, *with_added, long)]
    if section["type_vocab_size"] > 1:
        texts += [PAIR, (long, "short"), ("short", long), (long, long.upper() * 2)]
    batches = []
    for sides in texts:
        theirs = {name: np.array(row, np.int32)[None] for name, row in tokenizer(*sides, truncation=True).items()}
        ours = _ours(sides, section, vocabulary)
        for name in ours | theirs:
            if name not in ours or name not in theirs or not np.array_equal(ours[name], theirs[name]):
                shown = " + ".join(repr(side[:60]) for side in sides)
                raise command.UserError(
                    f"transformers {transformers.__version__} tokenizes {shown} differently: {name} differ from "
                    "those of this package; nothing was exported"
                )
        batches.append(theirs)
    return batches


def _ours(sides: tuple[str, ...], section: dict[str, Any], vocabulary: vocab.Vocab) -> dict[str, np.ndarray]:
    """Returns the row of a text or pair, as fine-tuning and embedding encode it."""
    text, *second = sides
    label = np.zeros(1, np.int32)
    rows = token_rows.encode([text], second or None, label, max_length=section["max_positions"], vocabulary=vocabulary)
    return {
        "input_ids": rows.ids.astype(np.int32)[None],
        "token_type_ids": rows.types.astype(np.int32)[None],
        "attention_mask": np.ones((1, len(rows.ids)), np.int32),
    }
