"""Losses, distances from a teacher and their gradients are PyTorch's in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from bert_tpu.model import cross_entropy, soft_targets

N, WIDTH, TEACHER_WIDTH = 12, 16, 24


def factors(rng, width, pieces, spread=1.0):
    shapes = (N, width), (pieces, width), (pieces,)
    h_ND, table_VD, bias_V = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return soft_targets.Factors(h_ND, table_VD * np.float32(spread / width**0.5), bias_V)


def logits(h_ND, table_VD, bias_V):
    return h_ND @ table_VD.T + bias_V


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("pieces", [517, 2 * cross_entropy.CPU_BLOCK])
def test_losses_distances_and_gradients_are_pytorchs(temperature, pieces):
    rng, T = np.random.default_rng(0), temperature
    student, teacher = factors(rng, WIDTH, pieces), factors(rng, TEACHER_WIDTH, pieces, spread=3.0)
    labels_N, weights_2N = rng.integers(0, pieces, N), rng.normal(size=(2, N))

    def total(student, teacher):
        losses_N, hits_N, distances_N = soft_targets.losses(student, jnp.asarray(labels_N), teacher, T)
        return jnp.sum(weights_2N[0] * losses_N + weights_2N[1] * distances_N), (losses_N, distances_N, hits_N)

    grad = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    (gradients, of_teacher), (losses_N, distances_N, hits_N) = grad(student, teacher)
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in student]
    z_NV, t_NV = logits(*theirs), logits(*(torch.tensor(x, dtype=torch.float64) for x in teacher))
    true_N = torch.from_numpy(labels_N)
    hard_N = functional.cross_entropy(z_NV, true_N, reduction="none")
    soft_N = T**2 * functional.kl_div(
        functional.log_softmax(z_NV / T, -1), functional.log_softmax(t_NV / T, -1), reduction="none", log_target=True
    ).sum(-1)  # fmt: skip
    (torch.from_numpy(weights_2N) * torch.stack([hard_N, soft_N])).sum().backward()
    np.testing.assert_allclose(losses_N, hard_N.detach(), rtol=1e-6)
    np.testing.assert_allclose(distances_N, soft_N.detach(), rtol=1e-5)
    np.testing.assert_array_equal(hits_N, z_NV.argmax(-1) == true_N)
    for ours, their in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(ours, their.grad, rtol=0, atol=2e-6 * np.abs(their.grad.numpy()).max())
    assert not any(np.any(leaf) for leaf in of_teacher)


def test_the_gradient_in_bfloat16_is_near_and_its_own_teacher_gives_none():
    rng, pieces, labels_N = np.random.default_rng(1), 600, np.arange(N)
    exact, teacher = factors(rng, WIDTH, pieces), factors(rng, TEACHER_WIDTH, pieces)

    def distance(student, teacher):
        return jnp.sum(soft_targets.losses(student, labels_N, teacher, 2.0)[2])

    def rounded(factors):
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), factors)._replace(bias_V=factors.bias_V)

    value, gradients = jax.value_and_grad(distance)(rounded(exact), rounded(teacher))
    expected_value, expected = jax.value_and_grad(distance)(exact, teacher)
    np.testing.assert_allclose(value, expected_value, rtol=0.02)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert np.linalg.norm(np.float32(ours) - theirs) < 0.02 * np.linalg.norm(theirs)
    value, gradients = jax.value_and_grad(distance)(exact, exact)
    assert abs(value) < 1e-5
    for nothing, theirs in zip(gradients, expected, strict=True):
        assert np.abs(nothing).max() < 1e-6 * np.abs(theirs).max()


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
def test_rows_that_are_no_piece_have_no_gradient(temperature):
    rng, real = np.random.default_rng(2), 500
    student, teacher = (
        f._replace(bias_V=np.where(np.arange(512) < real, f.bias_V, cross_entropy.FILL).astype(np.float32))
        for f in (factors(rng, WIDTH, 512), factors(rng, TEACHER_WIDTH, 512))
    )
    gradients = jax.grad(lambda f: jnp.sum(soft_targets.losses(f, np.arange(N), teacher, temperature)[2]))(student)
    assert not np.any(gradients.table_VD[real:])
    assert not np.any(gradients.bias_V[real:])
    assert np.all(gradients.bias_V[:real])
