"""A workdir in a bucket: everything of the run is there, nothing beside it, and a restart goes on from it."""

import os

from conftest import ROOT
import runs
import warm


def train(folder, given, cwd):
    words = [word.replace("--workdir=", "--workdir=gs://my-bucket/") for word in runs.words(given, "runs/micro")]
    words = [word.replace(f"--config={runs.FILE}", f"--config={ROOT / runs.FILE}") for word in words]
    done = warm.run(ROOT / "tests/bucket.py", [folder, *words], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def test_a_run_in_a_bucket_is_there_and_goes_on_from_there(tmp_path, corpus_dir, tmp_path_factory):
    cwd, folder = tmp_path / "here", tmp_path / "cloud"
    cwd.mkdir()
    (folder / "my-bucket").mkdir(parents=True)
    given = runs.keys(corpus_dir, tmp_path_factory) | {"checkpoint.every_steps": 8, "eval.num_batches": 0}
    given |= {"data.seq_lens": (16,), "data.max_predictions": (3,)}
    train(folder, given, cwd)
    run = folder / "my-bucket/runs/micro"
    assert {"config.json", "metrics.jsonl", "checkpoints", "tokenizer"} <= {path.name for path in run.iterdir()}
    assert max(runs.steps(run)) == runs.STEPS
    assert not list(cwd.iterdir()), "a bucket's path became a folder of this machine"
    once = runs.metrics(run, without=("examples_per_sec", "tokens_per_sec", "input_wait"))
    # The newest checkpoint is lost; the run goes on from the one before it, to the same numbers.
    (run / f"checkpoints/{runs.STEPS}/SHA256SUMS").unlink()
    assert "cannot be read" in train(folder, given, cwd)
    assert max(runs.steps(run)) == runs.STEPS
    assert runs.metrics(run, without=("examples_per_sec", "tokens_per_sec", "input_wait")) == once
