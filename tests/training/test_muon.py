"""Muon's step against a float64 transcription, and what it leaves to AdamW."""

import contextlib

from helpers import jaxpr_flops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.distributed import mesh
from bert_tpu.model import flops, param_layout, transformer
from bert_tpu.pretrain import pretraining
from bert_tpu.training import checkpoint, jobs, optim, trainer
from configs import bert

KEYS = {
    "learning_rate": 1e-2, "schedule": "linear", "warmup_steps": 0, "num_steps": 10, "b1": 0.9, "b2": 0.98,
    "eps": 1e-6, "weight_decay": 0.1, "clip_norm": 1.0,
}  # fmt: skip
LAYERS, WIDTH = 3, 16
SQUARE = (WIDTH, WIDTH)
MATRICES = {
    ("attention", "query"): SQUARE, ("attention", "key"): SQUARE, ("attention", "value"): SQUARE,
    ("attention", "output"): SQUARE, ("up",): (WIDTH, 4 * WIDTH), ("down",): (4 * WIDTH, WIDTH),
}  # fmt: skip


def tiny():
    cfg = bert.get_config("micro")
    cfg.model.update(vocab_size=50, hidden_size=WIDTH, num_heads=2, num_layers=LAYERS, intermediate_size=4 * WIDTH)
    cfg.update(batch_size=8, num_steps=10)
    cfg.optim.update(name="muon", warmup_steps=0, warmup_share=0.2)
    return cfg


@pytest.fixture(scope="module")
def params():
    rng, shapes = np.random.default_rng(1), jax.eval_shape(param_layout.pack, param_layout.shapes(tiny().model))
    return jax.tree.map(lambda s: 0.02 * rng.standard_normal(s.shape, np.float32), shapes)


@pytest.fixture(scope="module")
def grads(params):
    """Gradients of three steps; the first is above the clipping norm and the last below it."""
    rng = np.random.default_rng(0)
    return [jax.tree.map(lambda p, s=s: s * rng.standard_normal(p.shape, np.float32), params) for s in (1, 1e-2, 1e-4)]


def moved(params, grads, **changes):
    rule, rate, *_ = optim.make(**KEYS | changes)

    @jax.jit
    def step(params, opt, g, now):
        updates, opt = rule.update(g, opt, params)
        return jax.tree.map(lambda p, update: p - now * update, params, updates), opt

    opt = jax.jit(rule.init)(params)
    for number, g in enumerate(grads):
        params, opt = step(params, opt, g, rate(number))
    return params


def clipped(g):
    norm = np.sqrt(sum((np.float64(x) ** 2).sum() for x in jax.tree.leaves(g)))
    return jax.tree.map(lambda x: np.float64(x) / max(norm, 1.0), g)


def orthogonalized(x):
    """Five steps of the quintic iteration of Jordan et al. 2024, on a matrix with the long side second."""
    if x.shape[0] > x.shape[1]:
        return orthogonalized(x.T).T
    x = x / np.linalg.norm(x)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


def numpy_muon(p, gs):
    """Nesterov's momentum of Jordan et al. 2024, and equation 4 of Liu et al. 2025."""
    p, m = np.float64(p), 0.0
    for number, g in enumerate(gs):
        m = 0.95 * m + g
        rate = 1e-2 * (1 - number / 10)
        p = p - rate * (0.2 * np.sqrt(max(p.shape)) * orthogonalized(g + 0.95 * m) + 0.1 * p)
    return p


def test_each_matrix_of_a_layer_takes_the_step_of_the_transcription(params, grads):
    after, gs = moved(params, grads, name="muon"), [clipped(g) for g in grads]

    def pick(tree, path):
        for key in ("layers", *path, "kernel"):
            tree = tree[key]
        return tree

    for path, shape in MATRICES.items():
        before = pick(params, path)
        assert before.shape == (LAYERS, *shape)
        for layer in range(LAYERS):
            expected = numpy_muon(before[layer], [pick(g, path)[layer] for g in gs])
            np.testing.assert_allclose(pick(after, path)[layer], expected, atol=2e-5)
            change = np.float64(pick(after, path)[layer] - before[layer])
            assert 0.3e-2 < np.sqrt((change**2).mean()) < 0.7e-2  # of up to three steps of 0.2 x 1e-2


def test_all_other_parameters_take_adamws_step_to_the_bit(params, grads):
    ours, adamw = (moved(params, grads, name=name) for name in ("muon", "adamw"))
    differ = {
        tuple(key.key for key in path[1:-1])
        for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(adamw), strict=True)
        if not np.array_equal(a, b)
    }
    assert differ == set(MATRICES)


def test_trainings_at_once_move_as_each_alone(params, grads):
    rule = optim.make(**KEYS, name="muon").rule
    both = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    g = jax.tree.map(lambda a, b: jnp.stack([a, b]), *grads[:2])
    devices = mesh.make(jax.devices()[:2])
    update = jax.jit(lambda g, params: rule.update(g, rule.init(params), params, mesh=devices)[0])
    together = jax.jit(jax.vmap(update))(g, both)
    for number in (0, 1):
        g_one, one, ours = (jax.tree.map(lambda x, n=number: x[n], tree) for tree in (g, both, together))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, update(g_one, one))


def test_a_checkpoint_gives_its_state_back_and_it_is_smaller_than_adams(tmp_path):
    job, devices = pretraining.make_job(tiny()), mesh.make(jax.devices())
    new = jax.jit(lambda: jobs.new_state(job))()
    state = jax.tree.map(lambda x: x + 1, new._replace(params=None))._replace(params=new.params)
    keep = {"every_steps": 1, "keep_last": 1, "keep_every": 0}
    with contextlib.closing(checkpoint.Checkpoints(**keep, directory=tmp_path)) as checkpoints:
        checkpoints.save(state, {"unlogged": {}})
        checkpoints.wait()
        again, _ = trainer.restore_or_init(job, devices, checkpoints)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    cfg = tiny()
    cfg.optim.name = "adamw"
    adam = pretraining.make_job(cfg).state_shapes
    of_matrices = LAYERS * sum(np.prod(shape) for shape in MATRICES.values())
    sizes = [sum(x.size for x in jax.tree.leaves(opt)) for opt in (adam.opt, state.opt)]
    assert sizes[0] - sizes[1] == of_matrices  # one moment less


@pytest.mark.parametrize("ratio", [4, 2])
def test_its_flops_are_those_of_its_matrix_products(ratio):
    cfg = tiny()
    cfg.model.intermediate_size = ratio * WIDTH
    shapes = jax.eval_shape(param_layout.pack, param_layout.shapes(cfg.model))
    rule = optim.make(name="muon", **KEYS).rule
    counted = jaxpr_flops.products(jax.make_jaxpr(rule.update)(shapes, jax.eval_shape(rule.init, shapes), shapes).jaxpr)
    assert counted == flops.muon(transformer.Bert(**cfg.model))
    adam = pretraining.make_job(cfg).flops
    cfg.optim.name = "adamw"
    assert {n: adam[n] - own for n, own in pretraining.make_job(cfg).flops.items()} == {128: counted, 512: counted}
