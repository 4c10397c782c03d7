"""Rules of the rows that change with the step: the mask rate, and pairs only in the last part of a run.

The corpus is `placed_lock`: a token's id is its place, so that a row can be traced back.
"""

import collections
import itertools

from conftest import FIRST_PLACED
from helpers.placed_rows import BATCH, SEQ_LEN, SPEC, Row, document_of
import numpy as np
import pytest

from bert_tpu.core import command, hashing
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec, chunks, corpus_batches, host_share, nsp_pairs, packing, row_limits

STEPS = 40


@pytest.fixture(scope="module")
def share(placed_lock):
    return host_share.load(placed_lock, "train", batch_size=BATCH)


@pytest.mark.parametrize("schedule", ["phased", "mixed"])
@pytest.mark.parametrize("lens", [(128,), (128, 512)])
def test_step_of_a_batch_inverts_the_count_of_batches(schedule, lens):
    spec = SPEC._replace(schedule=schedule, seq_lens=lens, max_predictions=(20, 76)[: len(lens)])
    boundary = spec.num_steps * 9 // 10
    for step in [*range(60), *range(boundary - 20, boundary + 20), *range(spec.num_steps - 20, spec.num_steps)]:
        seq_len = spec.seq_len(step)
        assert spec.step_of(spec.steps_before(step, seq_len), seq_len) == step


@pytest.mark.parametrize("packed_rows", [0, 16])
def test_predictions_of_each_row_follow_the_rate_of_its_step(share, packed_rows):
    spec = SPEC._replace(
        num_steps=STEPS, schedule="mixed", max_predictions=(52, 205), mask_rate=0.4, final_mask_rate=0.1,
        packed_rows=packed_rows, packed_examples=8,
    )  # fmt: skip
    seen = set()
    for step, (seq_len, batch) in enumerate(corpus_batches.train(share, spec, 0)):
        rate = 0.4 + (0.1 - 0.4) * (step / STEPS)
        alone = packing.unpack(batch) if "example_starts" in batch else batch
        lengths, predictions = alone["attention_mask"].sum(axis=1), (alone["masked_ids"] > 0).sum(axis=1)
        expected = np.maximum(1, np.round(rate * lengths))
        np.testing.assert_array_equal(predictions, np.minimum(expected, lengths - 3))  # no special token is masked
        seen.add((seq_len, int(expected.max())))
    assert len(seen) > 30


def test_a_constant_rate_gives_the_batches_of_old(share):
    one, other = (
        [hashing.batch_sha256(batch) for _, batch in corpus_batches.train(share, spec, 0)]
        for spec in (SPEC._replace(num_steps=6), SPEC._replace(num_steps=6, final_mask_rate=SPEC.mask_rate))
    )
    assert one == other


def single_of(batch, r):
    """Returns the text of a single segment as places in the corpus. It checks the row's format."""
    ids = batch["input_ids"][r].copy()
    used = batch["masked_ids"][r] > 0
    ids[batch["masked_positions"][r][used]] = batch["masked_ids"][r][used]
    length = int(batch["attention_mask"][r].sum())
    assert np.flatnonzero(ids == 3).tolist() == [length - 1]
    assert ids[0] == 2
    assert (ids[length:] == 0).all()
    assert not batch["token_type_ids"][r].any()
    return ids[1 : length - 1] - FIRST_PLACED


@pytest.mark.parametrize("packed_rows", [0, 16])
def test_rows_are_single_segments_until_the_last_share_of_the_steps(share, whole_text, packed_rows):
    spec = SPEC._replace(num_steps=STEPS, schedule="mixed", nsp_share=0.25, packed_rows=packed_rows, packed_examples=8)
    labels = collections.Counter()
    for step, (_, batch) in enumerate(corpus_batches.train(share, spec, 0)):
        alone = packing.unpack(batch) if "example_starts" in batch else batch
        for r, label in enumerate(alone["next_sentence_label"]):
            if step < STEPS * 3 // 4:
                assert label == -1
                text = single_of(alone, r)
                assert (np.diff(text) == 1).all()
                assert document_of(whole_text, text[0]) == document_of(whole_text, text[-1])
            else:
                labels[Row(alone, r).label] += 1
    assert labels.keys() == {0, 1}
    assert 0.4 < labels[1] / labels.total() < 0.65


def test_single_segments_show_each_sentence_once_an_epoch(share, whole_text):
    spec = SPEC._replace(nsp_share=0.0)
    table = corpus_batches.chunk_table(share, SEQ_LEN, spec.short_prob)
    rows_of = collections.defaultdict(list)
    for batch in corpus_batches.stream(share, table, spec, SEQ_LEN, 0, 60):
        for r in range(BATCH):
            rows_of[r * share.num_groups // BATCH].append(single_of(batch, r))
    for group, rows in rows_of.items():
        size = int(table.sizes.chunks[group])
        assert len(rows) >= 2 * size
        first, last = (whole_text.document_start[share.document_start[g]] for g in (group, group + 1))
        for epoch in (rows[:size], rows[size : 2 * size]):
            tokens = np.concatenate(epoch)
            assert len(np.unique(tokens)) == len(tokens)
            sentences = np.unique(np.searchsorted(whole_text.sentence_start, tokens, side="right") - 1)
            assert sentences.min() >= first
            assert sentences.max() < last
            assert len(sentences) > 0.9 * (last - first)  # the others are cut away whole, as in the original


def test_a_resumed_run_and_more_hosts_have_the_same_rows(placed_lock, share):
    spec = SPEC._replace(num_steps=STEPS, schedule="mixed", nsp_share=0.25, final_mask_rate=0.05)
    first = 28  # two steps before the first with pairs
    whole = [batch for _, batch in corpus_batches.train(share, spec, 0)][first:]
    shares = [host_share.load(placed_lock, "train", batch_size=BATCH, process_index=i, process_count=2) for i in (0, 1)]
    parts = [list(corpus_batches.train(part, spec, first)) for part in shares]
    for n, batch in enumerate(whole):
        joined = {name: np.concatenate([part[n][1][name] for part in parts]) for name in batch}
        assert hashing.batch_sha256(joined) == hashing.batch_sha256(batch)


def test_heldout_rows_do_not_change_with_the_rules_of_training(placed_lock):
    share = host_share.load(placed_lock, "heldout", batch_size=BATCH)
    specs = SPEC, SPEC._replace(mask_rate=0.3, final_mask_rate=0.2, nsp_share=0.1)
    one, other = ([hashing.batch_sha256(b) for _, b in corpus_batches.heldout(share, spec, 1)] for spec in specs)
    assert one == other
    more = SPEC._replace(max_predictions=(26, 102))
    (_, few), (_, many) = (next(corpus_batches.heldout(share, spec, 1)) for spec in (SPEC, more))
    for name in ("masked_positions", "masked_ids"):
        np.testing.assert_array_equal(few[name], many[name][:, :20])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("final_mask_rate", 1.5, "not between 0 and 1"), ("nsp_share", -0.1, "not between 0 and 1")],
)
def test_wrong_shares_are_refused(key, value, message):
    with pytest.raises(command.UserError, match=message):
        batch_spec.check(SPEC._replace(**{key: value}))


def test_too_few_slots_for_the_mask_rate_are_reported():
    assert not row_limits.slots_warning(SPEC)  # 76 slots of 76.8
    warning = row_limits.slots_warning(SPEC._replace(mask_rate=0.3))
    assert "--config.data.max_predictions=38,154" in warning
    assert row_limits.slots_warning(SPEC._replace(final_mask_rate=0.3)) == warning


def test_a_run_without_pairs_is_warned_that_their_heads_are_not_trained():
    assert not row_limits.pairs_warning(SPEC)
    assert not row_limits.pairs_warning(SPEC._replace(nsp_share=0.01))
    for share, steps in ((0.0, 1000), (0.01, 20)):  # a share may round to no step
        warning = row_limits.pairs_warning(SPEC._replace(nsp_share=share, num_steps=steps))
        assert f"{share:g} of {steps:,} steps" in warning


def test_the_hidden_share_is_that_of_all_sources_of_a_large_text():
    """A shard of 60,000 documents: first those with one sentence of 400 tokens, then those with eight of 25."""
    of_one, of_many = 20_000, 40_000
    lengths = np.concatenate([np.full(of_one, 400), np.full(8 * of_many, 25)]).astype(np.uint32)
    sizes = np.concatenate([np.full(of_one, 1), np.full(of_many, 8)]).astype(np.uint32)
    shard = store.Shard(np.zeros(lengths.sum(), np.uint16), lengths, sizes, np.arange(len(sizes), dtype=np.uint32))
    hidden = of_one * (400 - (SEQ_LEN - 3)) / lengths.sum()
    assert row_limits.hidden_share(chunks.make_text(shard), SEQ_LEN) == pytest.approx(hidden, abs=0.01)


@pytest.mark.parametrize(
    ("sentence", "per_document", "hidden"), [(400, 1, 0.69), (110, 10, 0.43), (80, 10, 0.22), (25, 20, 0.0)]
)
def test_the_share_that_long_sentences_hide_is_that_of_the_tokens_in_no_row(share, sentence, per_document, hidden):
    """Rows have one segment of up to 125 tokens. Of sentences of 25 tokens, 5 fill one."""
    documents = 32
    lengths = np.full(documents * per_document, sentence)
    tokens = np.arange(lengths.sum()) + FIRST_PLACED
    sizes, origins = np.full(documents, per_document, np.uint32), np.arange(documents, dtype=np.uint32)
    text = chunks.make_text(store.Shard(tokens.astype(np.uint16), lengths.astype(np.uint32), sizes, origins))
    ends = np.array([0, documents])
    others = nsp_pairs.other_texts(origins, ends)
    long = share._replace(num_groups=1, first_group=0, text=text, document_start=ends, other_texts=others)
    spec = SPEC._replace(num_steps=1000, seq_lens=(SEQ_LEN,), max_predictions=(20,), short_prob=0.0, nsp_share=0.1)
    rows = int(corpus_batches.epoch_table(long, spec, SEQ_LEN).sizes.chunks.sum())
    seen = set()
    for _, batch in itertools.islice(corpus_batches.train(long, spec, 0), rows // BATCH):
        for r in range(BATCH):
            seen |= set(single_of(batch, r).tolist())
    assert rows % BATCH == 0
    assert 1 - len(seen) / len(tokens) == pytest.approx(hidden, abs=0.01)
    assert row_limits.hidden_share(text, SEQ_LEN) == pytest.approx(hidden, abs=0.01)
    warnings = "".join(row_limits.long_sentences_warnings(text, SEQ_LEN))
    assert (f"rows of {SEQ_LEN} do not show {row_limits.hidden_share(text, SEQ_LEN):.0%}" in warnings) == (
        hidden > 0.25
    )


@pytest.mark.parametrize(
    ("rows", "taken", "warns"), [(29, 2048, True), (29, 57, False), (255, 510, True), (256, 9999, False)]
)
def test_few_held_out_rows_that_come_again_and_again_are_named(rows, taken, warns):
    sentence = row_limits.short_heldout_warning(rows, 128, taken)
    assert (
        f"makes {rows} rows of 128 tokens, and an evaluation takes {taken:,}: each comes about" in sentence
    ) == warns
    assert bool(sentence) == warns
