"""Properties of the encoder that hold for any weights."""

import functools

from helpers import small_bert
import jax
import numpy as np

from bert_tpu.model import transformer


def run(batch):
    inputs = [batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")]
    encode = jax.jit(functools.partial(transformer.Bert(**small_bert.SECTION).apply, method="encode"))
    encoded = encode({"params": small_bert.params()}, *inputs)
    return np.asarray(encoded.tokens_BLD), np.asarray(encoded.pooled_BD)


def test_padding_changes_no_real_token():
    batch = small_bert.batch()
    real = batch["attention_mask"].astype(bool)
    tokens_BLD, pooled_BD = run(batch)

    junk = dict(batch)
    junk["input_ids"] = np.where(real, batch["input_ids"], 9)
    junk["token_type_ids"] = np.where(real, batch["token_type_ids"], 1)
    junk_BLD, junk_BD = run(junk)
    np.testing.assert_array_equal(junk_BLD[real], tokens_BLD[real])
    np.testing.assert_array_equal(junk_BD, pooled_BD)

    del batch["next_sentence_label"]
    longer_BLD, longer_BD = run({name: np.pad(rows, ((0, 0), (0, 9))) for name, rows in batch.items()})
    np.testing.assert_allclose(longer_BLD[:, : real.shape[1]][real], tokens_BLD[real], rtol=0, atol=1e-5)
    np.testing.assert_allclose(longer_BD, pooled_BD, rtol=0, atol=1e-5)

    alone = {name: rows[3:, :5] for name, rows in batch.items()}
    np.testing.assert_allclose(run(alone)[0][0], tokens_BLD[3, :5], rtol=0, atol=1e-5)
