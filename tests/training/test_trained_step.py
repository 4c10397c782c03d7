"""The training step from a trained encoder's weights is PyTorch's, with padding and with scores that are far apart."""

import dataclasses

from helpers import minilm, torch_gradients
import jax
import numpy as np
import optax
import pytest

from bert_tpu.distributed import mesh
from bert_tpu.huggingface import hf, tensor_names
from bert_tpu.model import param_layout
from bert_tpu.pretrain import pretraining
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, train_step
from configs import bert

RATE = 1024.0  # at which a step subtracts its gradient; so much that parameters' rounding does not show in it
ROWS, LENGTH, EXAMPLES, LAYERS, PIECES = 4, 64, 4, 2, 8000


@pytest.fixture(scope="module")
def trained():
    """The first layers and pieces of an encoder of width 384 with 12 heads, with heads drawn from seed 0."""
    whole = hf.load(minilm.folder())
    section = whole.model | {"num_layers": LAYERS, "vocab_size": PIECES}
    others = {f"layer_{number}" for number in range(LAYERS, whole.model["num_layers"])}
    params = {name: tree for name, tree in whole.params.items() if name not in others}
    params["embeddings"] = params["embeddings"] | {"word": params["embeddings"]["word"][:PIECES]}
    vocabulary = vocab.Vocab(whole.vocab.pieces[:PIECES], lower=True)
    part = whole._replace(model=section, params=params, vocab=vocabulary)
    return part._replace(params=hf.complete(part))


def grown(params, factor):
    """Returns parameters whose queries and keys are `factor` times larger; scores grow by its square."""
    params = jax.tree.map(np.array, params)
    for number in range(LAYERS):
        for name in ("query", "key"):
            for leaf in params[f"layer_{number}"]["attention"][name].values():
                leaf *= factor
    return params


def job_of(section, dtype, dropout, is_packed):
    """configs/bert.py's Job in the encoder's sizes, with a step that subtracts RATE times the gradient."""
    cfg = bert.get_config()
    cfg.model.update(**section | {"dtype": dtype, "dropout": dropout, "attention_dropout": dropout})
    cfg.data.update(seq_lens=(LENGTH,), max_predictions=(20,), packed_examples=EXAMPLES)
    cfg.data.packed_rows = ROWS if is_packed else 0
    cfg.update(batch_size=ROWS)
    return dataclasses.replace(pretraining.make_job(cfg), rule=optax.identity(), learning_rate=lambda step: RATE)


def batch(shapes):
    """Rows that end in padding; packed ones have several examples, and a hole behind the last."""
    rng, is_packed = np.random.default_rng(0), "example_starts" in shapes
    lengths = rng.integers(5, LENGTH + 1, ROWS)
    numbers = (np.arange(LENGTH) < lengths[:, None]).astype(np.int32)
    starts = np.zeros((ROWS, EXAMPLES), np.int32)
    if is_packed:
        starts = np.arange(EXAMPLES) * np.ones((ROWS, 1), np.int32) * (lengths // EXAMPLES)[:, None]
        numbers *= (np.arange(LENGTH)[:, None] >= starts[:, None]).sum(2).astype(np.int32)
    ids = rng.integers(1996, PIECES, (ROWS, LENGTH))  # whole words, the commoner ones
    np.put_along_axis(ids, starts, 101, 1)
    ids[np.arange(ROWS), lengths - 1] = 102
    slots = np.arange(shapes["masked_ids"][1]) < 1 + lengths[:, None] // 10
    places = np.argsort(np.where(numbers > 0, rng.random(ids.shape), 1), axis=1)[:, : slots.shape[1]]
    rows = {
        "input_ids": np.where(numbers > 0, ids, 0).astype(np.int32),
        "token_type_ids": ((numbers > 0) & (np.arange(LENGTH) > lengths[:, None] // 2)).astype(np.int32),
        "attention_mask": numbers,
        "masked_positions": (places * slots).astype(np.int32),
        "masked_ids": (rng.integers(1996, PIECES, slots.shape) * slots).astype(np.int32),
        "next_sentence_label": rng.integers(0, 2, shapes["next_sentence_label"]).astype(np.int32),
    }
    return rows | ({"example_starts": starts.astype(np.int32)} if is_packed else {})


class Step:
    """The compiled step of a Job on one device, as a function of parameters."""

    def __init__(self, job):
        self.job, self.mesh = job, mesh.make(jax.devices()[:1])
        self.jitted, self.batch = train_step.bound_step(job, self.mesh, LENGTH), batch(job.shapes[LENGTH])

    def __call__(self, params):
        """Returns (means on the host, the gradient); asserts that the step is not skipped."""
        packed = param_layout.pack(params)
        placed = jax.device_put(
            jax.tree.map(np.copy, jobs.new_state(self.job, packed)), train_step.shardings(self.job, self.mesh)
        )
        state, sums = self.jitted(placed, mesh.put_batch(self.batch, self.mesh))
        sums = jax.device_get(dict(sums))
        assert tuple(sums.pop("skipped")) == (0, 1)
        gradient = jax.tree.map(lambda old, new: (old - np.asarray(new)) / RATE, packed, state.params)
        return {name: total / count for name, (total, count) in sums.items()}, gradient


@pytest.fixture(scope="module")
def padded(trained):
    return Step(job_of(trained.model, "float32", 0.0, is_packed=False))


@pytest.mark.parametrize("factor", [1, 4])
def test_a_step_from_trained_weights_is_pytorchs(trained, padded, tmp_path, factor):
    """Without dropout; scores grow 16 times."""
    params = grown(trained.params, factor)
    means, gradient = padded(params)
    hf.save(tmp_path, params, trained.model, trained.vocab)
    loss, wanted = torch_gradients.of_batch(tmp_path, padded.batch)
    assert means["mlm_loss"] + means["nsp_loss"] == pytest.approx(loss, rel=1e-5)
    ours = tensor_names.to_hf(param_layout.trim(gradient, trained.model["vocab_size"]))
    whole = optax.tree.norm(wanted)
    for name, theirs in wanted.items():
        assert np.linalg.norm(ours[name] - theirs) < 2e-4 * (np.linalg.norm(theirs) + 1e-2 * whole), name


def test_a_step_of_packed_rows_with_dropout_in_bfloat16_is_that_in_float32(trained):
    (wanted, theirs), (means, ours) = (
        Step(job_of(trained.model, dtype, 0.1, is_packed=True))(trained.params) for dtype in ("float32", "bfloat16")
    )
    assert means == pytest.approx(wanted, rel=0.05)
    for (path, one), other in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        error = np.linalg.norm(one - other)
        assert error < 0.05 * (np.linalg.norm(other) + 1e-2 * optax.tree.norm(theirs)), jax.tree_util.keystr(path)
