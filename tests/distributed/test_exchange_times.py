"""The timing of exchanges: it returns figures for each form, finds wrong sums, and its advice follows them."""

import re

import jax
import pytest

from bert_tpu.distributed import collectives, exchange_times
from bert_tpu.distributed import mesh as meshes


def measure():
    return exchange_times.measure(meshes.make(jax.devices()), layers=1, table=(64, 8))


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch):
    monkeypatch.setattr(exchange_times, "REPEATS", 2)


def test_each_form_is_timed_and_its_sums_are_exact():
    results = measure()
    assert list(results) == list(collectives.FORMS)
    assert all(result["right"] and result["ms"] > 0 for result in results.values())


@pytest.mark.parametrize(("form", "exchanges"), [("all-to-all", 12), ("reduce-scatter", 13)])
def test_no_matrix_is_left_out_because_another_is_equal(form, exchanges):
    """Compilers compute equal things once, and then the times would be those of a smaller model."""
    exchange = exchange_times.jit_exchange(meshes.make(jax.devices()), form, layers=2, table=(64, 8))
    text = exchange.lower(jax.numpy.float32(1)).compile().as_text()
    assert len(re.findall(rf"= .* {form}\(", text)) == exchanges


def test_a_wrong_sum_is_found(monkeypatch):
    def without_the_last(matrix, dtype):
        rows = jax.lax.all_to_all(matrix, meshes.AXIS, 0, 0, tiled=True)
        return rows.reshape(8, -1, matrix.shape[1])[:7].sum(0)

    monkeypatch.setattr(collectives, "sum_rows", without_the_last)
    results = measure()
    assert [form for form, result in results.items() if not result["right"]] == ["all-to-all"]
    assert exchange_times.advise(results) in ("reduce-scatter", "all-reduce")


@pytest.mark.parametrize(
    ("figures", "form"),
    [
        ({"all-to-all": (3.1, True), "reduce-scatter": (2.3, True), "all-reduce": (4.0, True)}, "all-to-all"),
        ({"all-to-all": (3.6, True), "reduce-scatter": (2.3, True), "all-reduce": (4.0, True)}, "reduce-scatter"),
        ({"all-to-all": (1.0, False), "reduce-scatter": (4.3, True), "all-reduce": (4.0, True)}, "all-reduce"),
        ({"all-to-all": (1.0, False), "reduce-scatter": (4.3, False), "all-reduce": (4.0, False)}, ""),
    ],
)
def test_advice(figures, form):
    results = {name: {"ms": ms, "right": right} for name, (ms, right) in figures.items()}
    assert exchange_times.advise(results) == form
