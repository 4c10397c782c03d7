"""The training step from a trained encoder's weights: the fast softmax is right, or leaves it to the exact one."""

import dataclasses

from helpers import minilm
import jax
import numpy as np
import optax
import pytest

from bert_tpu.distributed import mesh
from bert_tpu.huggingface import hf
from bert_tpu.model import param_layout
from bert_tpu.pretrain import pretraining
from bert_tpu.training import jobs, train_step
from configs import bert

RATE = 1024.0  # at which a step subtracts its gradient; so much that parameters' rounding does not show in it
ROUNDING = {"float32": 2e-4, "bfloat16": 0.05}  # of a gradient's norm; bfloat16's own error is 1e-2
ROWS, LENGTH, EXAMPLES = 8, 128, 4


@pytest.fixture(scope="module")
def trained():
    """The encoder of 6 layers of 384 with 12 heads, heads drawn from seed 0."""
    pretrained = hf.load(minilm.folder())
    return pretrained.model, param_layout.pack(hf.complete(pretrained))


def job_of(section, dtype, softmax, is_packed):
    """configs/bert.py's Job in the encoder's sizes, with a step that subtracts RATE times the gradient."""
    cfg = bert.get_config()
    cfg.model.update(**{key: section[key] for key in section if key not in ("dtype", "remat", "softmax")})
    cfg.model.update(dtype=dtype, softmax=softmax)
    cfg.data.update(seq_lens=(LENGTH,), max_predictions=(20,), packed_examples=EXAMPLES)
    cfg.data.packed_rows = ROWS if is_packed else 0
    cfg.update(batch_size=ROWS)
    assert cfg.model.dropout == cfg.model.attention_dropout == 0.1
    return dataclasses.replace(pretraining.make_job(cfg), tx=optax.identity(), learning_rate=lambda step: RATE)


def batch(shapes):
    """Rows that end in padding; packed ones have several examples, and a hole behind the last."""
    rng, is_packed = np.random.default_rng(0), "example_starts" in shapes
    lengths = rng.integers(5, LENGTH + 1, ROWS)
    numbers = (np.arange(LENGTH) < lengths[:, None]).astype(np.int32)
    starts = np.zeros((ROWS, EXAMPLES), np.int32)
    if is_packed:
        starts = np.arange(EXAMPLES) * np.ones((ROWS, 1), np.int32) * (lengths // EXAMPLES)[:, None]
        numbers *= (np.arange(LENGTH)[:, None] >= starts[:, None]).sum(2).astype(np.int32)
    ids = rng.integers(1996, 8000, (ROWS, LENGTH))  # whole words, the commoner ones
    np.put_along_axis(ids, starts, 101, 1)
    ids[np.arange(ROWS), lengths - 1] = 102
    slots = np.arange(shapes["masked_ids"][1]) < 1 + lengths[:, None] // 10
    rows = {
        "input_ids": np.where(numbers > 0, ids, 0).astype(np.int32),
        "token_type_ids": ((numbers > 0) & (np.arange(LENGTH) > lengths[:, None] // 2)).astype(np.int32),
        "attention_mask": numbers,
        "masked_positions": (rng.integers(0, lengths[:, None], slots.shape) * slots).astype(np.int32),
        "masked_ids": (rng.integers(1996, 8000, slots.shape) * slots).astype(np.int32),
        "next_sentence_label": rng.integers(0, 2, shapes["next_sentence_label"]).astype(np.int32),
    }
    return rows | ({"example_starts": starts.astype(np.int32)} if is_packed else {})


def step(job, params):
    """(Sums on the host, the gradient) of one step from `params`, on one device."""
    on = mesh.make(jax.devices()[:1])
    placed = jax.device_put(jax.tree.map(np.copy, jobs.new_state(job, params)), train_step.shardings(job, on))
    state, sums = train_step.jit_step(job, on)(placed, mesh.put_batch(batch(job.shapes[LENGTH]), on))
    gradient = jax.tree.map(lambda old, new: (old - np.asarray(new)) / RATE, params, state.params)
    return {name: tuple(pair) for name, pair in jax.device_get(sums).items()}, gradient


@pytest.mark.parametrize(("dtype", "is_packed"), [("float32", False), ("bfloat16", True)])
def test_a_step_from_trained_weights_is_the_exact_one_s(trained, dtype, is_packed):
    """With padding and dropout: it is neither skipped nor computed again, and its gradient is exact's."""
    section, params = trained
    sums, gradient = step(job_of(section, dtype, "bounded", is_packed), params)
    assert sums.pop("skipped") == (0, 1)
    assert sums.pop("recomputed") == (0, 1)
    exact_sums, exact_gradient = step(job_of(section, dtype, "exact", is_packed), params)
    for name, (total, count) in sums.items():
        assert total / count == pytest.approx(exact_sums[name][0] / exact_sums[name][1], rel=ROUNDING[dtype])
    whole = optax.tree.norm(exact_gradient)
    for path, one in jax.tree.leaves_with_path(gradient):
        other = dict(jax.tree.leaves_with_path(exact_gradient))[path]
        error = np.linalg.norm(one - other)
        assert error < ROUNDING[dtype] * (np.linalg.norm(other) + 1e-2 * whole), jax.tree_util.keystr(path)


@pytest.mark.parametrize(("dtype", "factor", "is_taken"), [("float32", 2, True), ("bfloat16", 4, False)])
def test_a_step_from_grown_weights_is_the_exact_one_s_or_waits_for_it(trained, dtype, factor, is_taken):
    """Scores grow 4 and 16 times. Nothing is finite and wrong, and nothing is skipped by the exact form."""
    section, params = trained
    params = jax.tree.map(np.array, params)
    for name in ("query", "key"):
        for leaf in params["layers"]["attention"][name].values():
            leaf *= factor
    sums, gradient = step(job_of(section, dtype, "bounded", False), params)
    exact_sums, exact_gradient = step(job_of(section, dtype, "exact", False), params)
    assert exact_sums["skipped"] == (0, 1)
    assert sums["recomputed"] == (not is_taken, 1)
    if is_taken:
        error = optax.tree.norm(jax.tree.map(np.subtract, gradient, exact_gradient))
        assert error < ROUNDING[dtype] * optax.tree.norm(exact_gradient)
    else:
        assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))
