"""Details of the original that no other test pins, and the nine variants.

Elsewhere: optimizer and clipping in test_optim, the rate in test_learning_rate; chunks and target lengths in
test_corpus_batches, pairs in test_nsp_pairs; masks in test_masking; gradients, GELU and LayerNorm against PyTorch in
test_against_pytorch; ids in test_vocab.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.data import batch_spec
from bert_tpu.model import activation, param_layout, transformer
from bert_tpu.pretrain import mlm_nsp, pretraining
from bert_tpu.training import jobs
from configs import bert, demo

# Layers, hidden size, and megabytes of the float32 encoder with MLM head (without pooler and NSP head).
VARIANTS = {
    "micro": (2, 128, 17.7), "mini": (4, 128, 19.3), "tinyplus": (6, 128, 20.8), "small": (4, 256, 44.8),
    "mid": (6, 256, 51.1), "mobile": (6, 512, 140.4), "medium": (8, 512, 165.6), "large": (10, 768, 381.4),
    "pro": (12, 768, 438.1),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_their_sizes(name):
    layers, hidden, megabytes = VARIANTS[name]
    cfg = bert.get_config(name)
    assert (cfg.model.num_layers, cfg.model.hidden_size) == (layers, hidden)
    assert cfg.model.num_heads == hidden // 64
    assert cfg.model.intermediate_size == 4 * hidden
    params = param_layout.shapes(cfg.model)
    kept = {key: value for key, value in params.items() if key not in ("pooler", "nsp")}
    assert round(4 * sum(x.size for x in jax.tree.leaves(kept)) / 1e6, 1) == megabytes
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}


def test_every_variant_is_listed():
    assert set(bert.VARIANTS) == set(VARIANTS)
    with pytest.raises(ValueError, match="choose from micro"):
        bert.get_config("huge")


def test_the_default_is_the_originals_run():
    cfg = bert.get_config()
    assert (cfg.batch_size, cfg.num_steps, cfg.model.vocab_size) == (256, 1_000_000, 30_522)
    assert (cfg.data.seq_lens, cfg.data.max_predictions) == ((128, 512), (20, 76))
    assert (cfg.data.schedule, cfg.data.mask_rate, cfg.data.short_prob) == ("phased", 0.15, 0.1)
    assert (cfg.data.final_mask_rate, cfg.data.nsp_share) == (0.0, 1.0)
    assert (cfg.model.max_positions, cfg.model.type_vocab_size) == (512, 2)
    assert (cfg.model.dropout, cfg.model.attention_dropout, cfg.model.layer_norm_eps) == (0.1, 0.1, 1e-12)
    assert (cfg.model.activation, cfg.model.dtype) == ("gelu", "bfloat16")
    optim = cfg.optim.to_dict()
    assert optim == {
        "name": "bert_adamw", "learning_rate": 1e-4, "schedule": "bert_linear", "warmup_steps": 10_000, "b1": 0.9,
        "b2": 0.999, "eps": 1e-6, "weight_decay": 0.01, "clip_norm": 1.0, "rate_width": 0, "warmup_share": 0.0,
    }  # fmt: skip
    spec = pretraining.make_batch_spec(cfg)
    assert [spec.steps_before(1_000_000, n) for n in (128, 512)] == [900_000, 100_000]
    assert (spec.seq_len(899_999), spec.seq_len(900_000)) == (128, 512)


def test_weights_start_normal_cut_at_two_sigma_and_biases_at_zero():
    params = transformer.init(transformer.Bert(**demo.get_config().model), jax.random.key(0))
    for path, values in jax.tree_util.tree_leaves_with_path(params):
        name = path[-1].key
        if name == "bias":
            assert not values.any()
        elif name == "scale":
            assert (values == 1).all()
        else:
            assert float(jnp.abs(values).max()) <= 0.04
            if values.size > 30_000:  # cut at two sigma, a normal distribution has 0.8796 of its deviation
                assert float(values.std()) == pytest.approx(0.02 * 0.8796, rel=0.02)


@pytest.mark.parametrize(("name", "approximate"), [("gelu", False), ("gelu_new", True)])
def test_gelu_is_erf_and_gelu_new_its_tanh_form(name, approximate):
    x = jnp.linspace(-4, 4, 101)
    np.testing.assert_allclose(activation.FORMS[name](x), nn.gelu(x, approximate=approximate), atol=6e-7)
    assert float(jnp.abs(nn.gelu(x, approximate=False) - nn.gelu(x, approximate=True)).max()) > 1e-4


def test_gelu_in_bfloat16_is_erf_to_a_hundredth_of_the_resolution_of_bfloat16():
    x = jnp.linspace(-12, 12, 20_001)
    fitted = activation.normal_cdf(x)
    slope = jax.vmap(jax.grad(lambda x: x * activation.normal_cdf(x)))(x)
    np.testing.assert_allclose(x * fitted, nn.gelu(x, approximate=False), atol=2.7e-5)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(lambda x: nn.gelu(x, approximate=False)))(x), atol=1.2e-4)
    rounded = x.astype(jnp.bfloat16)
    errors = [
        np.abs(np.float64(form(rounded)) - np.float64(nn.gelu(rounded.astype(jnp.float32), approximate=False))).max()
        for form in (activation.FORMS["gelu"], lambda x: nn.gelu(x, approximate=False))
    ]
    assert errors[0] <= 1.1 * errors[1]


def test_the_mlm_loss_is_a_mean_over_the_batchs_predictions_plus_a_hundred_thousandth():
    batch = {"masked_ids": jnp.array([[7, 8, 0], [9, 0, 0]]), "next_sentence_label": jnp.array([0, 1])}
    counts = mlm_nsp.counts(batch)
    assert float(counts["mlm_loss"]) == pytest.approx(3 + 1e-5, abs=1e-7)
    assert float(counts["nsp_loss"]) == 2


def test_the_heads_see_the_gathered_places_only():
    cfg = demo.get_config()
    shapes = pretraining.make_batch_spec(cfg).shapes(128)
    job = pretraining.make_job(cfg)
    state = jax.eval_shape(lambda: jobs.new_state(job))
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in shapes.items()}
    jaxpr = str(jax.make_jaxpr(lambda p, b: job.loss(p, b, None))(state.params, batch))
    assert f"8192,{32 * 20}" in jaxpr  # vocabulary x predictions, in the order of cross_entropy
    assert f"8192,{32 * 128}" not in jaxpr  # never the vocabulary x all tokens
    assert f"{32 * 128},8192" not in jaxpr


def test_bfloat16_products_take_bfloat16_and_sums_float32():
    cfg = demo.get_config()
    cfg.model.dtype = "bfloat16"
    job = pretraining.make_job(cfg)
    state = jax.eval_shape(lambda: jobs.new_state(job))
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in job.shapes[128].items()}
    jaxpr = jax.make_jaxpr(lambda p, b: job.loss(p, b, None))(state.params, batch)
    products = [e for e in equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"]
    wide = [e for e in products if any(v.aval.dtype == jnp.float32 for v in e.invars)]
    assert len(products) > 10
    assert [e.outvars[0].aval.shape for e in wide] == [(32, 2)]  # the NSP head alone, two columns
    for name in ("exp", "log", "rsqrt"):
        assert all(e.invars[0].aval.dtype == jnp.float32 for e in equations(jaxpr.jaxpr) if e.primitive.name == name)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schedule": "random"}, "neither phased nor mixed"),
        ({"seq_lens": (512, 128)}, "a short and a long one"),
        ({"seq_lens": (128,)}, "for each of"),
        ({"max_predictions": (20, 0)}, "for each of"),
        ({"long_every": 1}, "2 or more"),
        ({"mask_rate": 0.0}, "not above 0"),
        ({"short_prob": 1.5}, "not between"),
        ({"seed": -1}, "not between"),
        ({"batch_size": 0}, "less than 1"),
        ({"num_steps": 0}, "less than 1"),
    ],
)
def test_settings_that_make_no_batches_are_refused(change, complaint):
    good = pretraining.make_batch_spec(bert.get_config())
    with pytest.raises(command.UserError, match=complaint):
        batch_spec.check(good._replace(**change))


def test_a_length_without_a_step_is_not_compiled():
    spec = pretraining.make_batch_spec(bert.get_config())
    assert spec._replace(num_steps=9).used_lens() == (128,)
    assert spec._replace(num_steps=10).used_lens() == (128, 512)
    assert spec._replace(seq_lens=(128,), max_predictions=(20,)).used_lens() == (128,)
