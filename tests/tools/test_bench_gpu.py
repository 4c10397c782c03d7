"""The benchmark for GPUs measures the same training on both sides; here both run on the CPU, at a tiny size."""

import copy
import shutil
import time

from helpers import tiny_runs
import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import hosts
from bert_tpu.huggingface import hf
from bert_tpu.model import param_layout
from bert_tpu.pretrain import pretraining
from bert_tpu.tools import bench_gpu

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def batches(corpus_dir, tmp_path_factory):
    """A config and the rows of its corpus, read back from the file."""
    cfg = tiny_runs.configured(tiny_runs.KEYS, **{"data.dir": str(corpus_dir), "data.schedule": "phased"})
    path = tmp_path_factory.mktemp("batches") / "batches.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_gpu, "LONG_ROWS", 64)
        patch.setattr(bench_gpu, "STEPS", 20)
        bench_gpu.write(copy.deepcopy(cfg), str(path))
    cfg.model.vocab_size = 1
    return cfg, bench_gpu.read(cfg, str(path)), path


def test_a_file_has_the_runs_own_rows(batches, corpus_dir):
    cfg, rows, path = batches
    assert cfg.model.vocab_size == 400
    assert {n: len(of_length["input_ids"]) for n, of_length in rows.items()} == {16: 640, 32: 64}
    run = pretraining.training(tiny_runs.configured(tiny_runs.KEYS, **{"data.dir": str(corpus_dir), "batch_size": 32}))
    seq_len, first = next(iter(run.open_data(1, hosts.Hosts()).batches_from(0)))
    for name, array in dict(first).items():
        np.testing.assert_array_equal(rows[seq_len][name][: len(array)], array)
    assert path.stat().st_size < 1e6


def test_steps_without_next_sentences_are_refused(batches, tmp_path):
    """Their label is -1, which the peer does not take."""
    cfg = copy.deepcopy(batches[0])
    cfg.data.nsp_share = 0.5
    with pytest.raises(command.UserError, match=r"give --config\.data\.nsp_share=1"):
        bench_gpu.write(cfg, str(tmp_path / "batches.npz"))


def test_both_sides_have_the_same_loss(batches, tokenizer_dir, tmp_path):
    """transformers' weights, in our model, give the loss that the peer's function gives."""
    cfg, rows, _ = batches
    cfg = copy.deepcopy(cfg)
    cfg.update(batch_size=8)
    cfg.model.update(max_positions=512, intermediate_size=64)
    loss_of, model = bench_gpu.their_loss(cfg, "cpu")
    model.eval()
    unused = (rows[32]["masked_ids"] == 0).any(axis=1)  # slots that are not used count on neither side
    assert unused.any()
    batch = {name: array[np.argsort(~unused, kind="stable")[:8]] for name, array in rows[32].items()}
    with torch.no_grad():
        theirs = loss_of(**{name: torch.tensor(array).long() for name, array in batch.items()}).item()
    shutil.copytree(tokenizer_dir, tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    job = pretraining.make_job(cfg)
    sums = job.loss(param_layout.pack(hf.load(tmp_path / "model").params), batch, None)
    ours = sum(float(total / count) for name, (total, count) in sums.items() if name.endswith("_loss"))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_both_sides_are_timed_at_each_size_until_the_memory_ends(batches):
    cfg, rows, _ = batches
    ours = bench_gpu.our_rate(copy.deepcopy(cfg), rows[16], (8, 16))
    theirs = bench_gpu.their_rate(cfg, rows[16], (8, 16), compiled=False)
    for rate in (ours, theirs):
        assert rate.rows in (8, 16)
        assert rate.step_ms == pytest.approx(1e3 * rate.rows / rate.examples_per_s)

    def make(size):
        if size > 64:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return lambda: time.sleep(0.05) or size

    shortages = []
    best = bench_gpu._fastest(make, (32, 64, 128, 256), lambda error: shortages.append(error) or True)
    assert best.rows == 64
    assert len(shortages) == 1
    with pytest.raises(jax.errors.JaxRuntimeError):
        bench_gpu._fastest(make, (128,), lambda error: True)


def test_losses_of_a_device_that_computes_wrongly_are_told_apart(batches, monkeypatch):
    cfg, rows, _ = batches
    monkeypatch.setattr(bench_gpu, "STEPS", 20)
    cfg = copy.deepcopy(cfg)
    cfg.data.seq_lens, cfg.data.max_predictions = (16,), (3,)
    losses = bench_gpu.compare_losses(cfg, rows[16])
    assert len(losses.gpu) == 20
    assert losses.gpu == losses.cpu  # here the default device is a CPU
    assert 0 < losses.rounding < 0.1
    assert losses.agree
    assert not losses._replace(gpu=[loss + 3 * losses.rounding for loss in losses.cpu]).agree


def test_another_file_is_refused_in_a_sentence(batches, tmp_path):
    cfg, _, path = batches
    (tmp_path / "text.npz").write_text("text")
    for file in (tmp_path / "text.npz", tmp_path / "none.npz"):
        with pytest.raises(command.UserError, match="write them with --write"):
            bench_gpu.read(cfg, str(file))
    other = copy.deepcopy(cfg)
    other.data.seq_lens = (16, 64)
    with pytest.raises(command.UserError, match="write it again with this config"):
        bench_gpu.read(other, str(path))
