"""A stream of batches has no thread that tunes it: the end of a run would have to wait for that thread."""

import pathlib
import time

from helpers import tiny_runs
import tensorflow as tf

from bert_tpu.data import corpus_batches, host_share
from bert_tpu.pretrain import pretraining

STREAMS = 3


def threads():
    time.sleep(0.5)  # until a stream has started its threads
    return {path.name for path in pathlib.Path("/proc/self/task").iterdir()}


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
