"""Update rules against float64 NumPy transcriptions of their sources."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.core import batch_ramp, command
from bert_tpu.pretrain import pretraining
from bert_tpu.training import optim
from configs import bert

ORIGINAL = {
    "name": "bert_adamw", "learning_rate": 1e-3, "schedule": "bert_linear", "warmup_steps": 2, "num_steps": 10,
    "b1": 0.9, "b2": 0.999, "eps": 1e-6, "weight_decay": 0.01, "clip_norm": 1.0,
}  # fmt: skip


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"word": (7, 4), "up": {"kernel": (4, 6), "bias": (6,)}, "norm": {"scale": (4,), "bias": (4,)}}
    return jax.tree.map(lambda s: scale * rng.standard_normal(s), shapes, is_leaf=lambda x: isinstance(x, tuple))


DECAYED = {"word": True, "up": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}}


def numpy_steps(params, grads, **c):
    """optimization.py of google-research/bert in float64: clip, moments, eps outside the root, decoupled decay."""
    m = v = jax.tree.map(np.zeros_like, params)
    for step, g in enumerate(grads):
        rate = c["learning_rate"] * (1 - step / c["num_steps"])
        if step < c["warmup_steps"]:
            rate = c["learning_rate"] * step / c["warmup_steps"]
        norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(g)))
        g = jax.tree.map(lambda x, n=norm: x * c["clip_norm"] / max(n, c["clip_norm"]), g)
        m = jax.tree.map(lambda m, g: c["b1"] * m + (1 - c["b1"]) * g, m, g)
        v = jax.tree.map(lambda v, g: c["b2"] * v + (1 - c["b2"]) * g**2, v, g)
        params = jax.tree.map(
            lambda p, m, v, decayed, r=rate: p - r * (m / (np.sqrt(v) + c["eps"]) + c["weight_decay"] * decayed * p),
            params, m, v, DECAYED,
        )  # fmt: skip
    return params


def steps(params, grads, **changes):
    rule, rate, *_ = optim.make(**ORIGINAL | changes)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    opt = rule.init(params)
    for step, g in enumerate(grads):
        updates, opt = rule.update(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), g), opt, params)
        now = rate(step)
        params = jax.tree.map(lambda p, update, now=now: p - now * update, params, updates)
    return params


@pytest.mark.parametrize("scale", [0.01, 3.0])  # below and above the clipping norm
def test_five_steps_equal_the_originals_arithmetic(scale):
    params, grads = tree(0), [tree(i, scale) for i in range(1, 6)]
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7),
        steps(params, grads),
        numpy_steps(params, grads, **ORIGINAL),
    )


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_five_steps_of_other_rules_equal_their_arithmetic_in_float64(name):
    """Adam with bias correction. LAMB then scales each matrix of a stack by |p| / |update| (arXiv:1904.00962)."""
    rng = np.random.default_rng(0)
    stack = rng.standard_normal((3, 4, 5)) * np.array([0.1, 1.0, 10.0])[:, None, None]
    params = {"word": rng.standard_normal((6, 5)), "up": {"kernel": stack, "bias": rng.standard_normal((3, 5))}}
    grads = [jax.tree.map(lambda x: rng.standard_normal(x.shape), params) for _ in range(5)]
    chosen = {"weight_decay": 0.3, "clip_norm": 0.0, "b1": 0.7, "b2": 0.9, "eps": 0.5}
    rate = optim.make(**ORIGINAL | chosen | {"name": name}).rate
    is_decayed = {"word": True, "up": {"kernel": True, "bias": False}}

    def step(p, m, v, decayed, number):
        update = m / (1 - 0.7**number) / (np.sqrt(v / (1 - 0.9**number)) + 0.5) + 0.3 * decayed * p
        if name == "lamb" and decayed:
            update *= np.linalg.norm(p, axis=(-2, -1), keepdims=True) / np.linalg.norm(
                update, axis=(-2, -1), keepdims=True
            )
        return p - float(rate(number - 1)) * update

    wanted, m = params, jax.tree.map(np.zeros_like, params)
    v = m
    for number, g in enumerate(grads, 1):
        m = jax.tree.map(lambda m, g: 0.7 * m + 0.3 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g**2, v, g)
        wanted = jax.tree.map(lambda p, m, v, decayed, n=number: step(p, m, v, decayed, n), wanted, m, v, is_decayed)
    ours = steps(params, grads, **chosen, name=name)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), ours, wanted)


def test_only_matrices_and_embeddings_are_decayed():
    assert optim.is_decayed(tree(0)) == DECAYED


def test_plain_adamw_corrects_the_bias():
    """First step of a bias-corrected Adam is the sign of the gradient; the original's is 0.1 / sqrt(0.001) of it."""
    params, grads = tree(0), [tree(1, 0.1)]
    plain = {"schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "clip_norm": 0.0, "eps": 1e-12}
    for name, factor in (("adamw", 1.0), ("bert_adamw", 0.1 / 0.001**0.5)):
        moved = steps(params, grads, name=name, **plain)
        jax.tree.map(
            lambda new, old, g, factor=factor: np.testing.assert_allclose(
                old - new, 1e-3 * factor * np.sign(g), rtol=1e-3
            ),
            moved, params, grads[0],
        )  # fmt: skip


def test_lamb_scales_each_matrix_to_its_own_norm():
    """You et al. 2020, algorithm 2: r = m^/(sqrt(v^) + eps) + decay p; p -= rate |p|/|r| r; bare Adam for the rest."""
    params, g = tree(0), tree(1, 0.1)
    moved = steps(params, [g], name="lamb", schedule="constant", warmup_steps=0, clip_norm=0.0)

    def expected(p, g, decayed):
        r = g / (np.sqrt(g**2) + ORIGINAL["eps"]) + 0.01 * decayed * p
        trust = np.linalg.norm(p) / np.linalg.norm(r) if decayed else 1.0
        return p - 1e-3 * trust * r

    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6),
        moved,
        jax.tree.map(expected, params, g, DECAYED),
    )


@pytest.mark.parametrize("weight_decay", [0.01, 0.0])
def test_lamb_only_decays_a_matrix_that_has_had_no_gradient(weight_decay):
    """NSP's parameters have none before the first pairs. A trust ratio would take a share `rate` of them each step."""
    params, g = tree(0), tree(1, 0.1)
    kernel = max(jax.tree_util.tree_leaves_with_path(g), key=lambda leaf: leaf[1].size)[0]
    g = jax.tree_util.tree_map_with_path(lambda path, x: 0 * x if path == kernel else x, g)
    keys = {"schedule": "constant", "warmup_steps": 0, "clip_norm": 0.0, "weight_decay": weight_decay}
    moved = steps(params, [g] * 10, name="lamb", **keys)
    for (path, new), old in zip(jax.tree_util.tree_leaves_with_path(moved), jax.tree.leaves(params), strict=True):
        if path == kernel:
            np.testing.assert_allclose(new, old * (1 - 1e-3 * weight_decay) ** 10, rtol=1e-6)
        else:
            assert np.all(new != old)


def test_the_rate_falls_by_one_hundredth_where_warm_up_ends():
    """The original decays from step 0 on and warm-up only overrides it: 1.0e-4 -> 0.99e-4 at step 10,000."""
    rate = optim.make_schedule("bert_linear", learning_rate=1e-4, warmup_steps=10_000, num_steps=1_000_000)
    for step, expected in ((0, 0.0), (5_000, 0.5e-4), (9_999, 0.9999e-4), (10_000, 0.99e-4), (500_000, 0.5e-4)):
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    assert float(rate(1_000_000)) == 0.0


@pytest.mark.parametrize(("schedule", "end"), [("linear", 0.0), ("cosine", 0.0), ("constant", 1e-3)])
def test_other_schedules_start_from_the_peak_after_warm_up(schedule, end):
    rate = optim.make_schedule(schedule, learning_rate=1e-3, warmup_steps=10, num_steps=100)
    assert float(rate(5)) == pytest.approx(0.5e-3)
    assert float(rate(10)) == pytest.approx(1e-3)
    assert float(rate(100)) == pytest.approx(end, abs=1e-9)


def test_a_share_warms_up_as_the_steps_that_it_makes_and_linear_then_ends_at_0():
    keys = ORIGINAL | {"name": "adamw", "schedule": "linear", "num_steps": 1010, "learning_rate": 2e-3}
    _, rate, peak, warmup = optim.make(**keys | {"warmup_steps": 0, "warmup_share": 0.02})
    assert warmup == ("optim.warmup_share", 0.02, 20)  # 20.2
    np.testing.assert_array_equal(
        rate(np.arange(1011)), optim.make(**keys | {"warmup_steps": 20}).rate(np.arange(1011))
    )
    assert float(rate(10)) == pytest.approx(1e-3)
    assert float(rate(20)) == pytest.approx(2e-3) == peak.rate
    assert float(rate(1010)) == 0
    stored = {"num_steps": 1010, "optim": {"warmup_steps": 0, "warmup_share": 0.02}}
    assert optim.stored_warmup(stored) == warmup
    assert optim.stored_warmup({"num_steps": 9, "optim": {"warmup_steps": 7}}).steps == 7  # of an older release


@pytest.mark.parametrize(("variant", "peak"), [("micro", 2e-3), ("small", 1.41421e-3), ("medium", 1e-3)])
def test_the_rate_falls_with_the_root_of_the_width(variant, peak):
    """Half of the rate at four times the width, whatever the depth: Vaswani et al. 2017, equation 3."""
    cfg = bert.get_config(variant)
    plain = pretraining.make_optimizer(cfg)
    assert (plain.peak, float(plain.rate(5000))) == ((1e-4, ""), pytest.approx(5e-5))
    cfg.optim.update(learning_rate=2e-3, rate_width=128)
    scaled = pretraining.make_optimizer(cfg)
    assert scaled.peak.rate == pytest.approx(peak, rel=1e-5)
    assert float(scaled.rate(5000)) == pytest.approx(peak / 2, rel=1e-5)


def test_a_width_below_1_is_refused_as_a_size():
    cfg = bert.get_config()
    cfg.optim.rate_width, cfg.model.hidden_size = 128, 0
    with pytest.raises(command.UserError, match="hidden_size is 0"):
        pretraining.make_job(cfg)


def test_a_config_file_of_an_earlier_release_has_the_rate_that_it_had():
    cfg = bert.get_config()
    for key in ("rate_width", "warmup_share"):
        del cfg.optim[key]
    assert pretraining.make_optimizer(cfg)[2:] == pretraining.make_optimizer(bert.get_config())[2:]
    assert pretraining.make_optimizer(cfg).warmup == ("optim.warmup_steps", 10_000, 10_000)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"warmup_share": 0.1}, "optim.warmup_steps is 2 and optim.warmup_share 0.1: set one of them to 0"),
        ({"warmup_share": 1.0}, "optim.warmup_share is 1.0: give a share of the steps, from 0 to below 1"),
        ({"warmup_share": -0.1}, "optim.warmup_share is -0.1: give a share of the steps, from 0 to below 1"),
        ({"rate_width": -128, "hidden_size": 8}, "optim.rate_width is -128: give the hidden size that"),
    ],
)
def test_a_warm_up_or_width_that_makes_no_sense_is_refused(change, sentence):
    with pytest.raises(command.UserError, match=sentence):
        optim.make(**ORIGINAL | change)


@pytest.mark.parametrize("change", [{"name": "adam"}, {"schedule": "step"}])
def test_an_unknown_rule_is_refused_by_name(change):
    with pytest.raises(command.UserError, match="is none of"):
        optim.make(**ORIGINAL | change)


@pytest.mark.parametrize("schedule", ["bert_linear", "linear", "cosine", "constant"])
@pytest.mark.parametrize(("warmup_steps", "warned"), [(49, False), (50, True), (51, True), (500, True)])
def test_a_warm_up_as_long_as_the_run_is_named_with_the_highest_rate_of_the_run(schedule, warmup_steps, warned):
    _, rate, *peak_and_warmup = optim.make(
        **ORIGINAL | {"schedule": schedule, "warmup_steps": warmup_steps, "num_steps": 50}
    )
    sentence = optim.unreached_peak(rate, *peak_and_warmup, 50)
    highest = max(float(rate(step)) for step in range(50))
    assert bool(sentence) == warned
    if warned:
        assert sentence == (
            f"optim.warmup_steps is {warmup_steps} and num_steps 50: the learning rate rises to {highest:.3g} at the "
            "last step and never reaches the peak, 0.001; give a lower optim.warmup_steps"
        )


@pytest.mark.parametrize(("share", "warned"), [(0.0, False), (0.009, True), (0.011, False)])
def test_a_share_that_rounds_to_no_step_is_named(share, warned):
    keys = ORIGINAL | {"warmup_steps": 0, "warmup_share": share, "num_steps": 50}
    _, rate, *peak_and_warmup = optim.make(**keys)
    sentence = optim.unreached_peak(rate, *peak_and_warmup, 50)
    assert sentence.startswith("optim.warmup_share 0.009 of 50 steps rounds to 0") == warned
    assert bool(sentence) == warned


@pytest.mark.parametrize("schedule", ["bert_linear", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 10, 30])
def test_with_a_ramp_the_rate_is_a_function_of_the_examples_before_the_step(schedule, warmup):
    ramp, batch_size, steps, peak = batch_ramp.Ramp((2, 4), 40), 8, 100, 0.5
    before = np.cumsum([0] + [2] * 20 + [4] * 20 + [8] * 60)
    rate = optim.make_schedule(
        schedule, learning_rate=peak, warmup_steps=warmup, num_steps=steps,
        batch_sizes=batch_ramp.BatchSizes(ramp, batch_size, steps),
    )  # fmt: skip
    for step, seen in enumerate(before[:-1].tolist()):
        rest = (seen - before[warmup]) / (before[-1] - before[warmup])
        after = {"bert_linear": 1 - seen / before[-1], "linear": 1 - rest, "cosine": (1 + math.cos(math.pi * rest)) / 2}
        expected = seen / before[warmup] if step < warmup else after[schedule]
        assert float(rate(step)) == pytest.approx(peak * expected, rel=2e-5, abs=1e-7)
        assert float(jax.jit(rate)(jnp.int32(step))) == pytest.approx(float(rate(step)), rel=1e-5, abs=1e-8)


def test_with_a_ramp_a_share_of_warm_up_is_one_of_the_examples():
    stored = {"num_steps": 100, "batch_size": 8, "ramp": {"rows": [2, 4], "steps": 40}, "optim": {"warmup_steps": 0}}
    for share, steps in ((0.1, 25), (0.2, 40), (0.6, 70)):  # 60, 120 and 360 of 600 examples
        section = stored["optim"] | {"warmup_share": share}
        assert optim.stored_warmup(stored | {"optim": section}).steps == steps
