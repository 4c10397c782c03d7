"""The statistics of a corpus equal a plain count of its batches and shards."""

import collections

from helpers import placed_rows, warm_processes
import numpy as np
import pytest

from bert_tpu.core import command, config
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec, chunks, corpus_batches, corpus_stats, host_share, packing
from bert_tpu.pretrain import pretraining
from tools import describe_corpus

LENS, SLOTS = (16, 64), 4


@pytest.fixture(scope="module")
def described(lock):
    return corpus_stats.describe(lock, LENS, slots=SLOTS)


def test_counts_are_those_of_the_text(lock, described):
    shard = store.load(lock, lock.splits["train"])
    counts = collections.Counter(shard.tokens.tolist())
    assert {i: n for i, n in enumerate(described.pieces.tolist()) if n} == counts
    ends = np.cumsum(shard.documents)
    documents = [int(shard.sentences[b - n : b].sum()) for n, b in zip(shard.documents, ends, strict=True)]
    for lengths, histogram in ((documents, described.document_tokens), (shard.sentences, described.sentence_tokens)):
        bins = collections.Counter(int(length).bit_length() - 1 for length in lengths)
        assert {i: n for i, n in enumerate(histogram.tolist()) if n} == bins


def test_an_epoch_s_examples_are_the_rows_that_training_has(lock, described):
    groups = len(host_share.deal(lock.splits["train"], corpus_stats.ROWS))
    share = host_share.load(lock, "train", batch_size=corpus_stats.ROWS)
    assert share.num_groups == groups > 1
    for n in LENS:
        np.testing.assert_array_equal(described.rows[n], corpus_batches.chunk_table(share, n, 0.1).epoch_rows)
        assert described.rows[n].max() / described.rows[n].min() - 1 <= described.spread() < host_share.SPREAD
        assert described.single_rows[n] == len(chunks.cut(share.text, target=n - 3, short_prob=0.1).first)
    pairs, single = int(described.rows[16].sum()), described.single_rows[16]
    spec = placed_rows.SPEC._replace(seq_lens=(16, 64), batch_size=1, long_every=10**9)
    assert described.epochs(spec._replace(num_steps=3 * pairs)) == {16: 3, 64: 0}
    part = spec._replace(num_steps=2 * single + pairs, nsp_share=pairs / (2 * single + pairs))
    assert described.epochs(part) == {16: 3, 64: 0}
    assert described.packed_epoch == len(chunks.cut(share.text, target=LENS[-1] - 3, short_prob=0.1).first)


def test_padding_is_that_of_training_s_batches(lock, described):
    share = host_share.load(lock, "train", batch_size=8)
    for n in LENS:
        cfg = config.load("configs/bert.py:micro")
        cfg.update_from_flattened_dict({"data.dir": str(lock.directory), "data.seq_lens": (n,), "batch_size": 8})
        cfg.data.max_predictions = (3,)
        batches = corpus_batches.stream(
            share, corpus_batches.chunk_table(share, n, 0.1), pretraining.make_batch_spec(cfg), n, 0, 200
        )
        real = np.mean([batch["attention_mask"].mean() for batch in batches])
        assert described.real[n] == pytest.approx(real, abs=0.03)


def test_packed_rows_are_those_of_the_plan(lock, described):
    rows = {"batch_size": 8, "packed_rows": 8}
    share = host_share.load(lock, "train", **rows)
    plan = packing.plan_rows(share.text, share.document_start, seq_len=LENS[-1], slots=SLOTS, short_prob=0.1)
    examples = (plan.rows >= 0).sum()
    assert described.packed_examples == pytest.approx(examples / len(plan.rows), rel=0.02)
    most = (plan.budgets + packing.SPECIAL).sum() / (len(plan.rows) * LENS[-1])  # if every example fills its budget
    assert 0.97 * most < described.packed_real <= most + 0.02
    # One packed row a step, all of them long but the first: as many steps as an epoch has rows.
    spec = batch_spec.BatchSpec(
        dir="", seed=0, batch_size=1, num_steps=2 * len(plan.rows), seq_lens=LENS, max_predictions=(5, 20),
        schedule="phased", long_every=2, short_prob=0.1, mask_rate=0.15, whole_word=False, packed_rows=1,
        packed_examples=SLOTS,
    )  # fmt: skip
    assert described.epochs(spec)[LENS[-1]] == pytest.approx(1, rel=0.02)


def test_the_description_is_for_a_person(lock, tmp_path):
    done = warm_processes.run("tools.describe_corpus", [lock.directory, "--out", tmp_path / "c.png"])
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("reading") or not line for line in done.stderr.splitlines())
    for words in (
        "text.txt",
        "unigram entropy",
        "equal documents",
        "commonest pieces",
        "epochs",
        "padding",
        "100%",
        "512, packed",
    ):
        assert words in done.stdout
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_verifying_names_a_shard_that_was_edited(lock, tmp_path):
    for path in lock.directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert corpus_stats.verify(store.read(tmp_path)) == sum(len(lock.splits[split]) for split in store.SPLITS)
    shard = tmp_path / lock.splits["heldout"][0].file
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(command.UserError, match=f"{shard.name} is damaged"):
        corpus_stats.verify(store.read(tmp_path))


def test_a_quantile_is_the_bound_of_its_bin():
    histogram = np.zeros(len(corpus_stats.LENGTHS), np.int64)
    histogram[[0, 3]] = 90, 10
    assert [describe_corpus._quantile(histogram, q) for q in (0.1, 0.9, 0.91, 1.0)] == [2, 2, 16, 16]
