"""Traces the rows of `placed_lock` back to their places in the corpus."""

from conftest import FIRST_PLACED
import numpy as np

from bert_tpu.data import batch_spec

SEQ_LEN, BATCH = 128, 32
SPEC = batch_spec.check(
    batch_spec.BatchSpec(
        dir="", seq_lens=(SEQ_LEN, 512), max_predictions=(20, 76), schedule="phased", long_every=10, short_prob=0.1,
        mask_rate=0.15, whole_word=False, packed_rows=0, packed_examples=1, seed=3, batch_size=BATCH,
        num_steps=1_000_000,
    )
)  # fmt: skip


class Row:
    """A row traced back: places of A and B in the corpus, and the label. It checks the row's format."""

    def __init__(self, batch, r):
        ids = batch["input_ids"][r].copy()
        used = batch["masked_ids"][r] > 0
        ids[batch["masked_positions"][r][used]] = batch["masked_ids"][r][used]
        self.length = int(batch["attention_mask"][r].sum())
        first, second = np.flatnonzero(ids == 3)
        assert ids[0] == 2
        assert second == self.length - 1
        assert (ids[self.length :] == 0).all()
        assert (batch["token_type_ids"][r] == ((np.arange(len(ids)) > first) & (np.arange(len(ids)) <= second))).all()
        self.a, self.b = ids[1:first] - FIRST_PLACED, ids[first + 1 : second] - FIRST_PLACED
        self.label = int(batch["next_sentence_label"][r])


def document_of(text, place):
    """Returns the number of the document that has the token at `place`."""
    sentence = np.searchsorted(text.sentence_start, place, side="right") - 1
    return int(np.searchsorted(text.document_start, sentence, side="right") - 1)
