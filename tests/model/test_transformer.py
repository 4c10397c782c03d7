"""Properties of the encoder that hold for any weights."""

import functools

from helpers import jaxpr_flops, small_bert
import jax
import numpy as np

from bert_tpu.model import attention, dropout, flops, transformer
from bert_tpu.training import jobs


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


def test_dropout_has_its_sites_each_with_bits_of_its_own(monkeypatch):
    """google-research/bert has one at the embeddings, and three in a layer: probabilities, attention, feed-forward."""
    seeds, rates, params = [], [], small_bert.params()

    def record(module, name, note):
        real = getattr(module, name)

        def recorded(*args):
            note(*args)
            return real(*args)

        monkeypatch.setattr(module, name, recorded)

    record(dropout, "bits", lambda site, shape: seeds.append(tuple(np.asarray(site).tolist())))
    record(dropout, "drop", lambda x, site, rate: rates.append(rate))
    record(attention, "attend", lambda *args: rates.append(args[-1]))
    bert = transformer.Bert(**small_bert.SECTION | {"dropout": 0.2, "attention_dropout": 0.3})
    batch = small_bert.batch()
    inputs = [batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")]
    draw = jobs.Draw(jax.random.key(0), np.int32(7))
    bert.apply({"params": params}, *inputs, draw, method="encode")
    layers = small_bert.SECTION["num_layers"]
    assert rates == [0.2, *[0.3, 0.2, 0.2] * layers]
    assert len(set(seeds)) == len(seeds) == 1 + 3 * layers
    assert {first_row for *_, first_row in seeds} == {7}


def test_flops_are_those_of_the_products_of_a_forward_pass():
    B, L, M = 2, 48, 7
    bert = transformer.Bert(**small_bert.SECTION)
    rows, slots = np.zeros((B, L), np.int32), np.zeros((B, M), np.int32)
    forward = functools.partial(bert.apply, {"params": small_bert.params()})
    counted = jaxpr_flops.products(jax.make_jaxpr(forward)(rows, rows, rows, slots).jaxpr)
    of_types = 2 * B * L * 2 * bert.hidden_size  # a one-hot product in place of a gather
    assert counted - of_types == flops.train(bert, B, L, M) / 3
    tuned = functools.partial(forward, method="encode")
    starts = np.zeros((B, 3), np.int32)
    some = jaxpr_flops.products(jax.make_jaxpr(lambda rows: tuned(rows, rows, rows, None, starts, starts))(rows).jaxpr)
    of_positions = 2 * B * L * L * bert.hidden_size
    assert some - of_types - of_positions == flops.tune(bert, B, L, 3) / 3
