"""A workdir in a bucket: all of the run is there, nothing on the local disk, and a restart goes on from it."""

import os
import shutil
import signal

from conftest import ROOT
from helpers import fake_bucket, local_pod, small_bert, tiny_runs, warm_processes
import jax
import numpy as np
import pytest

from bert_tpu.huggingface import hf, pretrained
from bert_tpu.tokenizer import vocab


def train(folder, options, cwd):
    words = [word.replace("--workdir=", "--workdir=gs://my-bucket/") for word in tiny_runs.words(options, "runs/micro")]
    words = [word.replace(f"--config={tiny_runs.FILE}", f"--config={ROOT / tiny_runs.FILE}") for word in words]
    done = warm_processes.run(
        ROOT / "tests/helpers/fake_bucket.py", [folder, *words], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def test_a_run_in_a_bucket_writes_only_there_and_goes_on_from_there(tmp_path, corpus_dir, tmp_path_factory):
    cwd, folder = tmp_path / "here", tmp_path / "cloud"
    cwd.mkdir()
    (folder / "my-bucket").mkdir(parents=True)
    options = tiny_runs.keys(corpus_dir, tmp_path_factory) | {"checkpoint.every_steps": 8, "eval.num_batches": 0}
    options |= {"data.seq_lens": (16,), "data.max_predictions": (3,)}
    train(folder, options, cwd)
    run = folder / "my-bucket/runs/micro"
    assert {"config.json", "metrics.jsonl", "checkpoints", "tokenizer"} <= {path.name for path in run.iterdir()}
    assert max(tiny_runs.steps(run)) == tiny_runs.STEPS
    assert not list(cwd.iterdir()), "a bucket's path became a folder of this machine"
    once = tiny_runs.metrics(run, without=("examples_per_sec", "tokens_per_sec", "input_wait"))
    # The newest checkpoint is lost; the run goes on from the one before it, to the same numbers.
    (run / f"checkpoints/{tiny_runs.STEPS}/SHA256SUMS").unlink()
    assert "cannot be read" in train(folder, options, cwd)
    assert max(tiny_runs.steps(run)) == tiny_runs.STEPS
    assert tiny_runs.metrics(run, without=("examples_per_sec", "tokens_per_sec", "input_wait")) == once
    # The run is killed while it writes the newest checkpoint, whose many files Orbax then deletes.
    newest = run / f"checkpoints/{tiny_runs.STEPS}"
    for name in ("SHA256SUMS", "commit_success.txt"):
        (newest / name).unlink()
    for number in range(60):
        (newest / f"opt/d{number}").write_bytes(b"0")
    assert "cannot be read" not in train(folder, options, cwd)
    assert (newest / "commit_success.txt").exists()
    # A workdir that was copied from a disk has no such object. Orbax would delete its checkpoints.
    for step in newest.parent.glob("[0-9]*"):
        (step / "commit_success.txt").unlink(missing_ok=True)
    train(folder, options, cwd)
    assert newest.exists()
    assert (newest / "commit_success.txt").exists()


@pytest.mark.timeout(300)
def test_a_pod_with_all_its_files_in_a_bucket_learns_what_one_host_learns_on_its_disk(
    tmp_path, corpus_dir, tmp_path_factory, monkeypatch
):
    """Two hosts start from a model there, get SIGTERM, and go on; corpus and compiled programs are there too."""
    folder, here = tmp_path / "cloud", tmp_path / "here"
    cloud, steps = folder / "my-bucket", 16
    shutil.copytree(corpus_dir, cloud / "corpus")
    options = tiny_runs.keys(corpus_dir, tmp_path_factory) | {
        "model.dropout": 0.1,
        "num_steps": steps,
        "eval.num_batches": 1,
    }
    options |= {"checkpoint.every_steps": 4, "eval.every_steps": steps, "log.every_steps": 1}
    section = {**tiny_runs.configured(options).model}
    hf.save(cloud / "model", small_bert.params(section), section, vocab.load(corpus_dir))
    shutil.copytree(cloud / "model", here / "model")

    server = fake_bucket.start(folder)
    monkeypatch.setenv(*next(iter(fake_bucket.url(server).items())))
    there = {"data.dir": "corpus", "compile_cache": "cache", "init_from": "model"}
    words = tiny_runs.words(
        options | {key: f"gs://my-bucket/{name}" for key, name in there.items()}, "gs://my-bucket/run"
    )
    words, run = [folder, *words], cloud / "run"
    with local_pod.Pod(tmp_path / "a", words, hosts=2, devices=2, program="tests/helpers/fake_bucket.py") as hosts:
        hosts.wait_until(lambda: (run / "metrics.jsonl").exists() and len(tiny_runs.metrics(run)) >= 2)
        hosts.send(1, signal.SIGTERM)
        assert hosts.exit_codes(120) == [143, 143], hosts.stderr(0) + hosts.stderr(1)
    at = tiny_runs.steps(run)[-1]
    assert 2 <= at < steps
    assert f"stopped; step {at} is saved" in (tmp_path / "a" / "host0.txt").read_text()
    with local_pod.Pod(tmp_path / "b", words, hosts=2, devices=2, program="tests/helpers/fake_bucket.py") as hosts:
        assert hosts.exit_codes(120) == [0, 0], hosts.stderr(0) + hosts.stderr(1)
        assert f"step {at} of {steps};" in hosts.stderr(0)
    server.shutdown()
    server.server_close()
    assert tiny_runs.steps(run)[-1] == steps
    assert any((cloud / "cache").iterdir())
    assert not (ROOT / "gs:").exists(), "a bucket's path became a folder of this machine"

    words = tiny_runs.words(options | {"init_from": here / "model"}, here / "run")
    with local_pod.Pod(tmp_path / "c", words, hosts=1, devices=4) as hosts:
        assert hosts.exit_codes(120) == [0], hosts.stderr(0)
    ours, theirs = (pretrained.load(place).params for place in (run, here / "run"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=2e-6), ours, theirs)
    started = hf.load(here / "model").params
    moved = max(jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), theirs, started)))
    assert moved > 1e-3  # more than the two may differ by
