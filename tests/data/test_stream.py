"""A stream of batches has no thread that tunes it, which the end of a run would wait for, and no copy of the text."""

import itertools
import pathlib
import resource
import time

from helpers import tiny_runs
from helpers.placed_rows import BATCH, SPEC
import numpy as np
import tensorflow as tf

from bert_tpu.core import aligned
from bert_tpu.corpus import store
from bert_tpu.data import chunks, corpus_batches, host_share, nsp_pairs, tensors
from bert_tpu.pretrain import pretraining

STREAMS = 3


def threads():
    time.sleep(0.5)  # until a stream has started its threads
    return {path.name for path in pathlib.Path("/proc/self/task").iterdir()}


def resident_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_tensorflow_would_tune_each_stream_in_a_thread_and_does_not(corpus_dir, tmp_path_factory, monkeypatch):
    cfg = tiny_runs.configured(tiny_runs.keys(corpus_dir, tmp_path_factory))
    cfg.update_from_flattened_dict({"data.seq_lens": (16,), "data.max_predictions": (3,)})
    spec = pretraining.make_batch_spec(cfg)
    share = host_share.load(pretraining.open_corpus(cfg), "train", **spec.row_counts())
    streams = []

    def more():
        """Returns how many threads STREAMS further streams add."""
        before = threads()
        for _ in range(STREAMS):
            streams.append(corpus_batches.train(share, spec, 0))
            next(streams[-1])
        return len(threads() - before)  # a thread of an earlier test may end meanwhile

    more()  # threads that all streams share
    ours = more()
    monkeypatch.setattr(tf.data.Dataset, "with_options", lambda dataset, options: dataset)
    assert more() == ours + STREAMS


def test_streams_of_two_lengths_share_the_memory_of_the_text(placed_lock):
    sentences, documents = np.full(20_000, 4000, np.uint32), np.full(200, 100, np.uint32)
    tokens = aligned.empty(80_000_000, np.uint16)
    tokens[:] = 200
    text = chunks.make_text(store.Shard(tokens, sentences, documents, np.arange(200)))
    bounds = np.array([0, 200])
    share = host_share.load(placed_lock, "train", batch_size=BATCH)._replace(
        num_groups=1, first_group=0, text=text, document_start=bounds,
        other_texts=nsp_pairs.other_texts(text.origins, bounds),
    )  # fmt: skip
    before = resident_bytes()
    streams = corpus_batches.train(share, SPEC._replace(schedule="mixed", long_every=2), 0)
    assert [seq_len for seq_len, _ in itertools.islice(streams, 2)] == [128, 512]
    assert resident_bytes() - before < 0.8 * tokens.nbytes


def test_a_corpus_that_was_read_and_its_tensors_have_one_memory(placed_lock):
    text = chunks.make_text(store.load(placed_lock, placed_lock.splits["train"]))
    for array, tensor in zip(text, tensors.of_text(text), strict=True):
        assert (tensor.numpy() == array).all()
        array[1] += 1
        assert tensor[1].numpy() == array[1]
