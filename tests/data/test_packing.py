"""Packed rows are full, show each chunk once an epoch, and give the loss of the same examples in separate rows."""

import collections
import itertools
import re

from helpers import small_bert, tiny_runs
from helpers.placed_rows import SPEC, Row, document_of
import hypothesis
from hypothesis import strategies
import jax
import numpy as np
import pytest

from bert_tpu.core import command, config, hashing
from bert_tpu.data import batch_spec, corpus_batches, host_share, packing
from bert_tpu.model import param_layout, transformer
from bert_tpu.pretrain import mlm_nsp, pretraining

L, E, ROWS = 128, 16, 24
PACKED = batch_spec.check(
    SPEC._replace(seq_lens=(L,), max_predictions=(20,), packed_rows=ROWS, packed_examples=E, short_prob=0.1)
)


@pytest.fixture(scope="module")
def share(placed_lock):
    return host_share.load(placed_lock, "train", **PACKED.row_counts())


@pytest.fixture(scope="module")
def plan(share):
    return corpus_batches.epoch_table(share, PACKED, L)


@pytest.fixture(scope="module")
def batches(share, plan):
    return list(corpus_batches.stream(share, plan, PACKED, L, 0, 40))


@hypothesis.given(strategies.lists(strategies.integers(1, 40), max_size=80), strategies.integers(1, 5))
def test_every_item_is_in_one_row_and_no_row_is_too_full(lengths, slots):
    rows = packing.pack(np.array(lengths, np.int64), 40, slots)
    assert sorted(rows[rows >= 0].tolist()) == list(range(len(lengths)))
    tokens = np.where(rows >= 0, np.append(lengths, 0)[rows], 0)
    assert (tokens.sum(axis=1) <= 40).all()
    assert ((rows >= 0).sum(axis=1) >= 1).all()
    assert (np.diff((rows >= 0).astype(int), axis=1) <= 0).all()  # empty slots come last


@pytest.mark.parametrize("most", [512, 200])
def test_rows_are_full(most):
    lengths = np.random.default_rng(0).integers(20, most + 1, 20_000)
    rows = packing.pack(lengths, 512, E)
    assert lengths.sum() / (512 * len(rows)) > 0.99


def test_rows_of_a_corpus_have_hardly_any_padding(lock):
    spec = PACKED._replace(seq_lens=(512,), max_predictions=(76,), batch_size=8, packed_rows=4)
    share = host_share.load(lock, "train", **spec.row_counts())
    plan = corpus_batches.epoch_table(share, spec, 512)
    assert (plan.budgets + packing.SPECIAL).sum() / (512 * len(plan.rows)) > 0.98
    packed = list(corpus_batches.stream(share, plan, spec, 512, 0, 50))
    assert np.mean([batch["attention_mask"] > 0 for batch in packed]) > 0.97
    alone = spec._replace(packed_rows=0)
    apart = list(corpus_batches.stream(share, corpus_batches.epoch_table(share, alone, 512), alone, 512, 0, 50))
    assert np.mean([batch["attention_mask"] > 0 for batch in apart]) < 0.8  # so packing gains something


def test_each_example_is_a_pair_of_the_corpus_with_a_true_label(batches, whole_text):
    labels = []
    for batch in batches[:10]:
        assert {name: array.shape for name, array in batch.items()} == PACKED.shapes(L)
        alone = packing.unpack(batch)
        assert len(alone["input_ids"]) == (batch["next_sentence_label"] >= 0).sum()
        for r in range(len(alone["input_ids"])):
            row = Row(alone, r)
            assert len(row.a) >= 1
            assert len(row.b) >= 1
            for segment in (row.a, row.b):
                assert (np.diff(segment) == 1).all()
                assert document_of(whole_text, segment[0]) == document_of(whole_text, segment[-1])
            same = document_of(whole_text, row.a[0]) == document_of(whole_text, row.b[0])
            assert same == (row.label == 0)
            labels.append(row.label)
    assert 0.4 < np.mean(labels) < 0.75


def test_masks_are_counted_by_example_and_never_hide_special_tokens(batches):
    for batch in batches[:10]:
        alone = packing.unpack(batch)
        length = alone["attention_mask"].sum(axis=1)
        used = alone["masked_ids"] > 0
        expected = np.clip(np.round(0.15 * length).astype(int), 1, 20)
        assert (used.sum(axis=1) == expected).all()
        at = np.take_along_axis(alone["input_ids"], alone["masked_positions"], axis=1)
        assert not np.isin(at[used], [0, 2, 3]).any()
        assert 0.6 < (at[used] == 4).mean() < 0.95
    positions = np.concatenate([batch["masked_positions"][batch["masked_ids"] > 0] for batch in batches])
    assert positions.max() > L * 0.9


def test_every_place_of_an_example_is_hidden_as_often(batches):
    shares = []
    for batch in batches[:10]:
        alone = packing.unpack(batch)
        for r, places in enumerate(alone["masked_positions"]):
            row, places = Row(alone, r), places[alone["masked_ids"][r] > 0]
            rank = places - 1 - (places > len(row.a))  # among the text, without [CLS] and [SEP]
            shares += ((rank + 0.5) / (len(row.a) + len(row.b))).tolist()
    fifths = np.histogram(shares, 5, (0, 1))[0] / len(shares)
    np.testing.assert_allclose(fifths, 0.2, atol=5 * np.sqrt(0.16 / len(shares)))


def test_each_row_comes_once_an_epoch_in_a_new_order(share, plan):
    rows_per_group = ROWS // share.num_groups
    least = int(np.diff(plan.bounds).min())
    number = 2 * least // rows_per_group
    seen = collections.defaultdict(list)
    for batch in corpus_batches.stream(share, plan, PACKED, L, 0, number + rows_per_group):
        for r in range(ROWS):
            first = tuple(batch["example_starts"][r]), int((batch["next_sentence_label"][r] >= 0).sum())
            seen[r // rows_per_group].append(first)
    for group, shapes in seen.items():
        size = int(np.diff(plan.bounds)[group])
        epochs = [shapes[i : i + size] for i in range(0, len(shapes) - size + 1, size)]
        assert len(epochs) >= 1
        examples = (plan.rows[plan.bounds[group] : plan.bounds[group + 1]] >= 0).sum(axis=1)
        for epoch in epochs:
            assert sorted(count for _, count in epoch) == sorted(examples.tolist())
        assert all(one != other for one, other in itertools.pairwise(epochs))


@pytest.mark.parametrize("hosts", [2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_hosts(placed_lock, batches, hosts):
    counts = PACKED.row_counts()
    shares = [
        host_share.load(placed_lock, "train", **counts, process_index=i, process_count=hosts) for i in range(hosts)
    ]
    parts = [next(corpus_batches.stream(s, corpus_batches.epoch_table(s, PACKED, L), PACKED, L, 7, 8)) for s in shares]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert hashing.batch_sha256(whole) == hashing.batch_sha256(batches[7])


def test_packed_and_alone_give_the_same_loss_and_gradients():
    bert = transformer.Bert(**small_bert.SECTION)
    alone = small_bert.batch()
    lengths = alone["attention_mask"].sum(axis=1)
    rows, slots = [[0, 2, 3], [1]], 5  # of 38 and 23 tokens
    packed = {name: np.zeros((2, 40), np.int32) for name in ("input_ids", "token_type_ids", "attention_mask")}
    packed |= {name: np.zeros((2, 12), np.int32) for name in ("masked_positions", "masked_ids")}
    packed |= {"example_starts": np.zeros((2, slots), np.int32), "next_sentence_label": np.full((2, slots), -1)}
    for r, examples in enumerate(rows):
        start = filled = 0
        for slot, i in enumerate(examples):
            n, m = lengths[i], int((alone["masked_ids"][i] > 0).sum())
            for name in ("input_ids", "token_type_ids"):
                packed[name][r, start : start + n] = alone[name][i, :n]
            packed["attention_mask"][r, start : start + n] = slot + 1
            packed["masked_positions"][r, filled : filled + m] = alone["masked_positions"][i, :m] + start
            packed["masked_ids"][r, filled : filled + m] = alone["masked_ids"][i, :m]
            packed["example_starts"][r, slot] = start
            packed["next_sentence_label"][r, slot] = alone["next_sentence_label"][i]
            start, filled = start + n, filled + m

    def total(params, batch):
        sums, counts = mlm_nsp.loss(bert, params, batch, None), mlm_nsp.counts(batch)
        return sum(sums[name][0] / counts[name] for name in counts), sums

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    params = param_layout.pack(small_bert.params())
    (loss, sums), gradients = run(params, packed)
    (expected, expected_sums), expected_gradients = run(params, alone)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for name, (value, count) in expected_sums.items():
        np.testing.assert_allclose(sums[name], (value, count), rtol=1e-5, atol=1e-5, err_msg=name)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(expected_gradients))
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(g, e, rtol=0, atol=1e-5 * max(np.abs(e).max(), 1e-2 * largest)),
        gradients, expected_gradients,
    )  # fmt: skip

    # The logits, of which other objectives are made, are those of separate rows too.
    def label_logits(batch):
        inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask", "masked_positions"))
        logits = bert.apply({"params": small_bert.params()}, *inputs, starts_BE=batch.get("example_starts"))
        picked = np.take_along_axis(np.asarray(logits.mlm_BMV), batch["masked_ids"][..., None], axis=-1)[..., 0]
        return picked[batch["masked_ids"] > 0]

    np.testing.assert_allclose(np.sort(label_logits(packed)), np.sort(label_logits(alone)), rtol=1e-4, atol=1e-5)
    # Unpacking gives the examples back.
    unpacked = packing.unpack(packed)
    order = [0, 2, 3, 1]
    for name, array in unpacked.items():
        np.testing.assert_array_equal(array[..., : alone[name].shape[-1]], alone[name][order], err_msg=name)


def test_a_packed_run_trains(corpus_dir, tmp_path, capsys):
    cfg = config.load("configs/bert.py:micro")
    cfg.update_from_flattened_dict({
        "model.vocab_size": 400, "model.hidden_size": 32, "model.num_heads": 1, "model.num_layers": 1,
        "model.intermediate_size": 64, "model.dtype": "float32", "data.dir": str(corpus_dir), "data.seq_lens": (16, 64),
        "data.max_predictions": (3, 10), "data.schedule": "mixed", "data.long_every": 2, "data.packed_rows": 8,
        "batch_size": 16, "num_steps": 6, "log.every_steps": 2, "eval.every_steps": 6, "eval.num_batches": 1,
        "log.to": (), "compile_cache": "",
    })  # fmt: skip
    assert pretraining.run(cfg, tmp_path) == 0
    log = capsys.readouterr().err
    match = re.search(r"8 packed rows hold about (\d+) examples a step(: --config.data.packed_rows=(\d+) comes)?", log)
    assert 8 <= int(match[1]) <= 16
    kinds = {(line["kind"], line["seq_len"]) for line in tiny_runs.metrics(tmp_path)}
    assert kinds == {("train", 16), ("train", 64), ("eval", 16), ("eval", 64)}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"packed_rows": -1}, "packed_rows -1 is less than 0"), ({"packed_examples": 0}, "packed_examples 0"),
        ({"whole_word": True}, "whole_word does not go with data.packed_rows"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_packed_are_refused(changes, complaint):
    with pytest.raises(command.UserError, match=complaint):
        batch_spec.check(PACKED._replace(**changes))
    with pytest.raises(command.UserError, match=r"data\.packed_rows 24 does not divide over 16 devices"):
        PACKED.check_division(16, {PACKED.seq_lens[-1]: 1})
