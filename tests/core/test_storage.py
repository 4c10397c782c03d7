"""A workdir in a bucket. TensorFlow's in-memory file system answers for gs://; an access that bypasses epath fails."""

import json
import types

from etils import epath
from etils.epath import backend
import pytest
import tensorflow as tf

from bert_tpu.core import command, storage
from bert_tpu.monitoring import hours, log
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint_steps, checksums, nonfinite, saved_params, workdir

RUN = "gs://bucket/run"


class InMemory:
    """epath's TensorFlow backend, with ram:// in place of gs://."""

    def open(self, path, mode):
        """A bucket replaces an object; ram:// adds to it."""
        path = str(path).replace("gs://", "ram://", 1)
        if "w" in mode and TENSORFLOW.exists(path):
            TENSORFLOW.remove(path)
        return TENSORFLOW.open(path, mode)

    def __getattr__(self, name):
        function = getattr(TENSORFLOW, name)

        def translate(value, old, new):
            if isinstance(value, (list, tuple, types.GeneratorType)):
                return [translate(part, old, new) for part in value]
            return str(value).replace(old, new, 1) if str(value).startswith(old) else value

        def call(*args, **options):
            args = [translate(value, "gs://", "ram://") for value in args]
            # A bucket replaces an object that is written again; this file system appends to it.
            if name == "open" and "w" in args[1] and TENSORFLOW.exists(args[0]):
                TENSORFLOW.remove(args[0])
            return translate(function(*args, **options), "ram://", "gs://")

        return call


TENSORFLOW = backend.tf_backend


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "tf_backend", InMemory())
    yield epath.Path(RUN)
    epath.Path(RUN).rmtree(missing_ok=True)
    assert list(tmp_path.iterdir()) == []  # no code took "gs:" for a folder


def test_paths_in_a_bucket_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(storage.absolute(RUN)) == RUN
    assert str(storage.absolute(epath.Path(RUN)) / "checkpoints") == f"{RUN}/checkpoints"
    assert str(storage.absolute("run")) == str(tmp_path / "run")
    assert [storage.is_bucket(path) for path in (RUN, epath.Path(RUN), "run", tmp_path)] == [True, True, False, False]


def new_log(bucket, **changes):
    options = dict(
        workdir=bucket, every_steps=1, to=(), first_step=0, num_steps=10, batch_size=8, rows=int,
        batch_share=lambda _: 1.0, objectives=("mlm_loss",), learning_rate=float, work=float, peak_s={}, unlogged={},
        config={}, writes=True,
    )  # fmt: skip
    return log.Log(**options | changes)


class Refusing:
    """A client that refuses the first calls, as TensorFlow does without a network."""

    def __init__(self, times):
        self.left = times

    def __call__(self):
        self.left -= 1
        if self.left >= 0:
            raise tf.errors.FailedPreconditionError(None, None, "Could not resolve hostname")


def test_a_bucket_that_refuses_for_a_moment_is_asked_again_and_then_it_is_an_oserror(monkeypatch):
    monkeypatch.setattr(storage, "PAUSES_S", (0, 0, 0))
    storage.in_bucket(f"{RUN}/metrics.jsonl", Refusing(3))
    with pytest.raises(OSError, match=r"Could not resolve hostname.*gs://bucket/run/metrics\.jsonl"):
        storage.in_bucket(f"{RUN}/metrics.jsonl", Refusing(4))
    with pytest.raises(ZeroDivisionError):  # a fault of the program
        storage.in_bucket(RUN, lambda: 1 / 0)


def test_lines_that_a_bucket_does_not_take_are_kept(bucket, monkeypatch, capsys):
    monkeypatch.setattr(storage, "PAUSES_S", ())
    monkeypatch.setattr(log, "BUCKET_S", 0)
    bucket.mkdir(parents=True)
    run_log = new_log(bucket)
    refusing, opened = Refusing(2), InMemory.open

    def open_or_refuse(self, path, mode):
        if "a" in mode:
            refusing()
        return opened(self, path, mode)

    monkeypatch.setattr(InMemory, "open", open_or_refuse)
    for step in (1, 2, 3):
        run_log.step(step, 16, {"mlm_loss": (1.0, 1.0)}, 0.5, 0.1)
    assert capsys.readouterr().err.count("cannot be written (Could not resolve hostname); its lines are kept") == 1
    assert [line["step"] for line in run_log.lines()] == [1, 2, 3]


def test_a_bucket_is_claimed_and_remembers_its_config(bucket):
    with workdir.claim(bucket, {"seed": 1}):
        pass
    assert workdir.read_config(RUN) == {"seed": 1}
    (bucket / "checkpoints" / "10").mkdir(parents=True)
    (bucket / "checkpoints" / "10" / "SHA256SUMS").write_text("")
    with pytest.raises(command.UserError, match="gs://bucket/run belongs to another config: seed is 1 there and 2"):
        workdir.claim(bucket, {"seed": 2}).__enter__()


def test_a_folder_with_a_bracket_is_read_and_no_checkpoint_is_written_there(tmp_path):
    folder = tmp_path / "bert[1]"
    (folder / "checkpoints" / "10").mkdir(parents=True)
    assert checkpoint_steps.of_workdir(folder) == [10]
    assert [path.name for path in storage.named(folder, "check*")] == ["checkpoints"]
    assert storage.named(tmp_path / "none", "*") == []
    with pytest.raises(command.UserError, match=r"--workdir .*bert\[1\] has a \[, and Orbax"):
        workdir.claim(folder, {"seed": 1}).__enter__()


def test_tokenizer_hours_and_lines_reach_the_bucket(bucket, tokenizer_dir):
    workdir.write_tokenizer(bucket, vocab.load(tokenizer_dir))
    assert (bucket / "tokenizer" / "vocab.txt").read_text() == (tokenizer_dir / "vocab.txt").read_text()
    clock = hours.Hours(bucket, writes=True, units={"cpu": 2})
    clock.resume(0)
    clock.write(4)
    assert json.loads((bucket / "hours.json").read_text())["unsaved"]["step"] == 4

    writer = new_log(bucket)
    written = []
    for step in range(1, 6):
        writer.step(step, 16, {"mlm_loss": (1.0, 1.0)}, 0.5, 0.1)
        written.append((bucket / "metrics.jsonl").read_text().count("\n"))
    assert written == [1] * 5  # not one write a line: a bucket accepts an object about once a second
    writer.unlogged()
    assert (bucket / "metrics.jsonl").read_text().count("\n") == 5  # and all lines before a checkpoint
    new_log(bucket, first_step=3)
    assert (bucket / "metrics.jsonl").read_text().count("\n") == 3


def test_checkpoints_in_a_bucket_are_checked(bucket):
    for step in (10, 20):
        folder = bucket / "checkpoints" / str(step)
        (folder / "params").mkdir(parents=True)
        for name in ("array", *checksums.OF_ARRAYS):
            (folder / "params" / name).write_text("numbers" * step)
        sums = "".join(f"{digest}  {name}\n" for name, digest in checksums.sums(folder, ("params",)).items())
        (folder / "SHA256SUMS").write_text(sums)
    assert str(saved_params.find(RUN)) == f"{RUN}/checkpoints/20"
    (bucket / "checkpoints" / "20" / "params" / "array").write_text("nonsense")
    assert str(saved_params.find(RUN)) == f"{RUN}/checkpoints/10"
    assert nonfinite.params_of(RUN, 15) == (bucket / "checkpoints" / "10", 5)
