"""The step: the same update on any number of devices and in any number of parts."""

import dataclasses

import jax
import numpy as np
import pytest

from bert_tpu.distributed import collectives, mesh
from bert_tpu.model import dropout
from bert_tpu.planning import compiler
from bert_tpu.pretrain import pretraining
from bert_tpu.training import jobs, loop, train_step
from configs import bert


def config(**changes):
    cfg = bert.get_config("micro")
    cfg.model.update(vocab_size=200, hidden_size=32, num_heads=1, num_layers=1, intermediate_size=64, dtype="float32")
    cfg.model.update(dropout=0.1, attention_dropout=0.1)
    cfg.data.update(seq_lens=(32, 64), max_predictions=(5, 9))
    cfg.optim.update(warmup_steps=2, learning_rate=1e-2)
    cfg.update(batch_size=32, num_steps=20)
    cfg.update(**changes)
    return cfg


def batch(shapes, seed):
    rng = np.random.default_rng(seed)
    B, L = shapes["input_ids"]
    length = rng.integers(8, L + 1, (B, 1))
    mask = (np.arange(L) < length).astype(np.int32)
    slots = np.arange(shapes["masked_ids"][1]) < rng.integers(1, shapes["masked_ids"][1] + 1, (B, 1))
    return {
        "input_ids": (rng.integers(5, 200, (B, L)) * mask).astype(np.int32),
        "token_type_ids": (mask * (np.arange(L) > length // 2)).astype(np.int32),
        "attention_mask": mask,
        "masked_positions": (rng.integers(0, 8, slots.shape) * slots).astype(np.int32),
        "masked_ids": (rng.integers(5, 200, slots.shape) * slots).astype(np.int32),
        "next_sentence_label": rng.integers(0, 2, B).astype(np.int32),
    }


def three_steps(devices, **changes):
    """Parameters and losses after three steps."""
    job = pretraining.make_job(config(**changes))
    on = mesh.make(jax.devices()[:devices])
    state = jax.jit(lambda: jobs.new_state(job), out_shardings=train_step.shardings(job, on))()
    step = train_step.bound_step(job, on, 32)
    losses = []
    for number in range(3):
        state, sums = step(state, mesh.put_batch(batch(job.shapes[32], number), on))
        losses.append([float(total / count) for total, count in jax.device_get(sums).values()])
    return jax.device_get(state.params), np.array(losses)


@pytest.fixture(scope="module")
def plain():
    return three_steps(1)


@pytest.mark.parametrize(("devices", "accumulate"), [(8, 1), (1, 4), (2, 4), (8, 4)])
def test_devices_and_parts_change_only_rounding(plain, devices, accumulate):
    """The draws of dropout included."""
    params, losses = three_steps(devices, accumulate=accumulate)
    np.testing.assert_allclose(losses, plain[1], rtol=1e-5)
    # Adam divides by sqrt(v): where a gradient is near 0 its rounding error is scaled up to the learning rate.
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5), params, plain[0])


@pytest.mark.parametrize("form", collectives.FORMS)
def test_forms_of_the_exchange_change_only_rounding(plain, form, monkeypatch):
    monkeypatch.setattr(train_step, "CUT_SIZE", 1)  # matrices of this small model are cut too
    params, losses = three_steps(8, exchange=form)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), params, plain[0])
    np.testing.assert_allclose(losses, plain[1], rtol=1e-4)


def test_muon_on_devices_that_share_its_matrices_changes_only_rounding(monkeypatch):
    """A product of the iteration needs the whole matrix, whose rows are cut over the devices."""
    plain = three_steps(1, optim={"name": "muon"})
    monkeypatch.setattr(train_step, "CUT_SIZE", 1)
    params, losses = three_steps(4, optim={"name": "muon"})
    np.testing.assert_allclose(losses, plain[1], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), params, plain[0])


def test_a_longer_batch_may_have_parts_of_its_own():
    def loops(**changes):
        job, on = pretraining.make_job(config(**changes)), mesh.make(jax.devices()[:1])
        texts = {
            n: train_step.jit_step(job, on, n)
            .lower(job.state_shapes, batch(job.shapes[n], 0), *job.fixed_shapes)
            .as_text()
            for n in (32, 64)
        }
        return {n: text.count("stablehlo.while") for n, text in texts.items()}

    before = loops()
    assert loops(accumulate_long=4) == before | {64: before[64] + 1}
    assert loops(accumulate=4, accumulate_long=1) == before | {32: before[32] + 1}


def test_dropout_is_the_seed_s():
    model_section = config().model.copy_and_resolve_references()
    model_section.update(dropout=0.1)
    job = pretraining.make_job(config(model=model_section))
    on = mesh.make(jax.devices()[:1])
    fresh = jax.jit(lambda: jobs.new_state(job))  # of seed 0
    step = {seed: train_step.bound_step(dataclasses.replace(job, seed=seed), on, 32) for seed in (0, 1)}
    losses = []
    for seed in (0, 1, 0):
        _, sums = step[seed](fresh(), mesh.put_batch(batch(job.shapes[32], 0), on))
        losses.append(float(sums["mlm_loss"][0]))
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("seeds", [(0, 1), ((0, 1), (2, 3))])
def test_all_seeds_have_one_program(seeds):
    on, texts = mesh.make(jax.devices()[:1]), set()
    for seed in seeds:
        job = dataclasses.replace(pretraining.make_job(config()), seed=seed)
        rows = batch(job.shapes[32], 0)
        if isinstance(seed, tuple):
            rows = {name: np.stack([x] * len(seed), axis=1) for name, x in rows.items()}
        texts.add(train_step.jit_step(job, on, 32).lower(job.state_shapes, rows, *job.fixed_shapes).as_text())
    assert len(texts) == 1


def test_remat_keeps_the_update(plain):
    model_section = config().model.copy_and_resolve_references()
    model_section.update(remat=True)
    params, losses = three_steps(1, model=model_section)
    np.testing.assert_allclose(losses, plain[1], rtol=1e-6)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5), params, plain[0])
    job = pretraining.make_job(config(model=model_section))
    shapes = jax.eval_shape(lambda: jobs.new_state(job))
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: job.loss(p, batch(job.shapes[32], 0), None)["mlm_loss"][0]))(
        jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes.params)
    )
    assert str(jaxpr).count("remat") >= 1  # the layer really is recomputed


def mask(seeds, shape):
    return dropout.keep_mask(dropout.bits(seeds, shape), 0.1)


def test_dropout_drops_its_share_and_sites_are_independent():
    seeds = jax.random.bits(jax.random.key(0), (4, 3), "uint32").at[:, 2].set(0)
    shape = (16, 4, 64, 64)
    masks = np.stack([mask(s, shape) for s in seeds]).reshape(4, -1).astype(np.float64)
    n = masks.shape[1]
    error = 5 * (0.09 / n) ** 0.5
    assert (np.abs(masks.mean(axis=1) - 0.9) < error).all()
    correlation = np.corrcoef(masks)
    assert (np.abs(correlation - np.eye(4)) < 5 / n**0.5).all()
    # Nor is one a shifted or permuted copy of another, nor of itself: rows, neighbours, powers of two apart.
    for shift in (1, 2, 64, 4096, 64 * 64 * 4):
        for one, other in ((0, 0), (0, 1)):
            assert abs(np.corrcoef(masks[one], np.roll(masks[other], shift))[0, 1]) < 5 / n**0.5
    for bit in range(16):
        flipped = masks[1][np.arange(n) ^ (1 << bit)]
        assert abs(np.corrcoef(masks[0], flipped)[0, 1]) < 5 / n**0.5


def test_rows_of_a_site_are_independent_and_so_are_its_columns_and_its_rectangles():
    """Words of rows and of columns are shared along a row and a column; their sums must not show it."""
    kept = np.asarray(mask(np.array([7, 8, 0], np.uint32), (1, 512, 512)))[0] - 0.9
    for one in (kept, kept.T):
        correlation = one @ one.T / (0.09 * 512)
        apart = correlation[~np.eye(512, dtype=bool)]
        assert abs(apart.mean()) < 5 / 512 / 2
        assert apart.std() == pytest.approx(512**-0.5, rel=0.05)
    # Four corners of a rectangle, whose sums are tied: the mean of their product is 0 if they are independent.
    for shift in (1, 3, 64, 200):
        two = kept * np.roll(kept, shift, axis=0)
        four = (two * np.roll(two, shift, axis=1)) / 0.09**2
        assert abs(four.mean()) < 5 * 512**-1


def test_a_row_has_its_mask_wherever_it_is_computed():
    whole = np.asarray(mask(np.array([1, 2, 0], np.uint32), (8, 4, 16, 32)))
    part = np.asarray(mask(np.array([1, 2, 6], np.uint32), (2, 4, 16, 32)))
    np.testing.assert_array_equal(part, whole[6:])


def test_dropout_keeps_the_expectation():
    x = jax.numpy.ones((64, 32, 32))
    bits = dropout.bits(jax.random.bits(jax.random.key(1), (3,), "uint32"), x.shape)
    assert float(dropout.apply(x, bits, 0.1).mean()) == pytest.approx(1.0, abs=0.005)
    assert dropout.apply(x, None, 0.1) is x


def test_metrics_weigh_predictions_not_rows():
    job = pretraining.make_job(config())
    params = jax.jit(lambda: jobs.new_state(job))().params
    whole = batch(job.shapes[32], 0)
    halves = [jax.tree.map(lambda x, h=h: x[h * 16 : h * 16 + 16], whole) for h in (0, 1)]
    loss = jax.jit(lambda rows: job.loss(params, rows, None))
    sums, *parts = (jax.device_get(loss(rows)) for rows in (whole, *halves))
    for name, (total, count) in sums.items():
        assert total == pytest.approx(sum(part[name][0] for part in parts), rel=1e-5)
        assert count == sum(part[name][1] for part in parts)
    assert sums["mlm_loss"][1] == (whole["masked_ids"] > 0).sum()


def test_a_step_that_is_not_finite_changes_nothing_but_the_step():
    job = pretraining.make_job(config())
    on = mesh.make(jax.devices())
    state = jax.device_get(jax.jit(lambda: jobs.new_state(job))())
    state = jax.tree.map(np.copy, state)
    state.params["layers"]["up"]["kernel"][0, 0, 0] = np.inf
    placed = mesh.put_batch(batch(job.shapes[32], 0), on)
    after, sums = jax.device_get(train_step.bound_step(job, on, 32)(jax.device_put(state, mesh.replicated(on)), placed))
    assert after.step == 1
    jax.tree.map(np.testing.assert_array_equal, (after.params, after.opt), (state.params, state.opt))
    assert all(tuple(pair) == ((1, 1) if name == "skipped" else (0, 0)) for name, pair in sums.items())


def test_dropout_of_steps_and_seeds_has_nothing_in_common():
    """A site's masks as a step draws them, from the small numbers that a user gives as seeds."""

    def drawn(seed, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        bits = jax.numpy.pad(jax.random.bits(key, (2,), "uint32"), (0, 1))
        return np.asarray(mask(bits, (64, 8, 32, 64)), np.float64).ravel()

    seeds = [(seed, 0) for seed in (0, 1, 2, 255, 256, 65_536, 2**31 - 1)]
    masks = np.stack([drawn(*each) for each in seeds + [(0, step) for step in (1, 2, 255, 256, 65_536, 999_999)]])
    apart = np.corrcoef(masks)[~np.eye(len(masks), dtype=bool)]
    assert np.abs(apart).max() < 5 / masks.shape[1] ** 0.5


def test_a_diverged_seed_changes_no_other_seed():
    job = dataclasses.replace(pretraining.make_job(config()), seed=(0, 1))
    on = mesh.make(jax.devices())
    first = jax.tree.map(np.copy, jax.device_get(jax.jit(lambda: jobs.new_state(job))()))
    first.params["layers"]["up"]["kernel"][1, 0, 0, 0] = np.inf
    rows = jax.tree.map(lambda x: np.stack([x, x], axis=1), batch(job.shapes[32], 0))
    step, one_step = train_step.bound_step(job, on, 32), train_step.bound_step(job.single, on, 32)
    after, sums = jax.device_get(step(jax.device_put(first, train_step.shardings(job, on)), mesh.put_batch(rows, on)))
    assert (int(after.step), sums["skipped"][0].tolist()) == (1, [0, 1])
    jax.tree.map(lambda new, old: np.testing.assert_array_equal(new[1], old[1]), after[1:], first[1:])
    alone = jobs.State(first.step, *jax.tree.map(lambda x: x[0], first[1:]))
    alone = jax.device_put(alone, train_step.shardings(job.single, on))
    alone, _ = jax.device_get(one_step(alone, mesh.put_batch(batch(job.shapes[32], 0), on)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=2e-5), after.params, alone.params)


def test_the_memory_of_a_step_is_planned_as_its_arrays_take_it():
    job = pretraining.make_job(config())
    program = train_step.compile_function(
        train_step.jit_step(job, mesh.make(jax.devices()[:1]), 32), job.state_shapes, job.shapes[32], *job.fixed_shapes
    )
    memory, state = compiler._memory(program, job.state_shapes), job.state_shapes
    for part, tree in ((memory.params, state.params), (memory.opt, state.opt)):
        assert part == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def test_an_evaluation_is_the_sum_over_all_devices_and_batches():
    job = pretraining.make_job(config())
    params = jax.jit(lambda: jobs.new_state(job))().params
    rows = [batch(job.shapes[32], seed) for seed in range(2)]
    wanted = [jax.device_get(jax.jit(job.loss, static_argnums=2)(params, of_one, None)) for of_one in rows]
    wanted = jax.tree.map(np.add, *wanted)
    for devices in (1, 8):
        on = mesh.make(jax.devices()[:devices])
        programs = train_step.Programs({}, {32: train_step.jit_evaluate(job, on)})
        placed = jax.device_put(params, train_step.shardings(job, on).params)
        sums = loop.evaluate(programs, on, placed, [(32, of_one) for of_one in rows])[32]
        jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5), sums, wanted)
    assert sums["mlm_loss"][1] == sum((of_one["masked_ids"] > 0).sum() for of_one in rows)


def test_an_evaluation_has_the_parts_of_a_step_and_needs_as_little_memory():
    """A batch that fits a device only in parts is evaluated, too."""
    on, sizes, results = mesh.make(jax.devices()[:1]), [], []
    for changes in ({}, {"accumulate_long": 8}):
        job = pretraining.make_job(config(**changes))
        state = jax.jit(lambda job=job: jobs.new_state(job), out_shardings=train_step.shardings(job, on))()
        evaluate = train_step.jit_evaluate(job, on)
        program = train_step.compile_function(evaluate, job.state_shapes.params, job.shapes[64])
        sizes.append(program.memory_analysis().temp_size_in_bytes)
        results.append(jax.device_get(program(state.params, mesh.put_batch(batch(job.shapes[64], 0), on))))
    jax.tree.map(lambda ours, whole: np.testing.assert_allclose(ours, whole, rtol=1e-5), *results)
    assert sizes[1] < 0.4 * sizes[0]
