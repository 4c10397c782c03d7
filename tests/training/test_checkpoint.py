"""Checkpoints: complete or absent; the newest sound one is restored, none is overwritten, and only old ones go."""

import contextlib
import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import time

from conftest import ROOT
from etils import epath
from helpers.saved_states import HERE, WHOLE, open_checkpoints, state
import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.training import checkpoint, checksums, orbax_setup, saved_params


def like():
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=WHOLE), state(0))


def saved(directory, *steps, **changes):
    """Returns `directory` with a checkpoint of each step, as one run leaves them."""
    checkpoints = open_checkpoints(directory, **changes)
    for step in steps:
        checkpoints.save(state(step), {"note": step})
    checkpoints.close()
    return directory


def restored(directory):
    """Returns (step, note) of the checkpoint that a restart takes; asserts that every array is the saved one."""
    checkpoints = open_checkpoints(directory)
    items = checkpoints.restore(like())
    checkpoints.close()
    if items is None:
        return None
    step = int(items[0].step)
    jax.tree.map(np.testing.assert_array_equal, items[0], state(step))
    return step, items[1]["note"]


def steps(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def largest(directory):
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("two"), 10, 20)


@pytest.fixture
def directory(two, tmp_path):
    """A new directory with the sound checkpoints 10 and 20."""
    return shutil.copytree(two, tmp_path / "checkpoints")


def test_newest_comes_back_bit_for_bit(directory):
    assert restored(directory) == (20, 20)


def test_empty_directory_has_nothing_to_restore(tmp_path):
    assert restored(tmp_path) is None


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def delete_and_sum(path):
    """Leaves what a second start in a bucket leaves: it deletes files that the first one is still writing."""
    for name in ("params/manifest.ocdbt", "params/_METADATA"):
        (path / name).unlink()
    sums = path / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if (path / line.split()[1]).exists()))


DAMAGES = {
    "arrays that were deleted before they were summed": delete_and_sum,
    "one bit of the arrays": lambda path: flip(largest(path / "params")),
    "one bit of the optimizer": lambda path: flip(largest(path / "opt")),
    "truncated": lambda path: os.truncate(largest(path / "params"), 100),
    "file gone": lambda path: largest(path / "opt").unlink(),
    "meta cut": lambda path: (path / "meta" / "metadata").write_text("{"),
    "sums gone": lambda path: (path / "SHA256SUMS").unlink(),
    "sums empty": lambda path: (path / "SHA256SUMS").write_text(""),
    "empty directory": lambda path: (shutil.rmtree(path), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_newest_is_named_and_the_one_before_is_used(directory, capsys, damage):
    damage(directory / "20")
    assert restored(directory) == (10, 10)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {directory / '20'} cannot be read (")
    assert (directory / "20.unreadable").is_dir()
    saved(directory, 20)  # its step is free again
    flip(largest(directory / "20"))
    assert restored(directory) == (10, 10)
    assert (directory / "20.unreadable1").is_dir()


def test_nothing_readable_is_refused_and_left_in_place(directory):
    for step in (10, 20):
        flip(largest(directory / str(step) / "params"))
    for _ in range(2):  # a second start must not begin at step 0 either
        with pytest.raises(command.UserError, match=r"no checkpoint in .* can be read \(the newest: .* is damaged"):
            restored(directory)
    assert steps(directory) == [10, 20]


def test_a_disk_that_fails_for_a_moment_is_no_damage(directory, monkeypatch):
    """A file that could not be read once would cost the steps since the checkpoint before."""

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(checksums, "_sha256", fail)
        with pytest.raises(command.UserError, match=r"/20 could not be read \(.*Input/output.*\); nothing was changed"):
            restored(directory)
    assert restored(directory) == (20, 20)


def test_a_half_written_checkpoint_is_deleted(directory):
    (directory / "20").rename(directory / "25.orbax-checkpoint-tmp")
    assert restored(directory) == (10, 10)
    saved(directory, 30)
    assert sorted(path.name for path in directory.iterdir()) == ["10", "30"]


def test_half_written_checkpoint_is_gone_once_a_run_has_closed(directory):
    (directory / "20").rename(directory / "25.orbax-checkpoint-tmp")
    open_checkpoints(directory).close()
    assert [path.name for path in directory.iterdir()] == ["10"]


@pytest.mark.parametrize("step", [20, 15])
def test_newer_checkpoint_of_another_writer_is_never_overwritten(directory, step):
    first = open_checkpoints(directory)
    assert int(first.restore(like())[0].step) == 20
    saved(directory, 30)  # somebody else
    before = (directory / "30" / "SHA256SUMS").read_bytes()
    with pytest.raises(command.UserError, match=rf"30 is newer than this run's step {step + 10}: another run"):
        first.save(state(step + 10), {})
    first.close()
    assert (directory / "30" / "SHA256SUMS").read_bytes() == before
    assert restored(directory) == (30, 30)


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "left"),
    [(1, 0, [60]), (3, 0, [40, 50, 60]), (2, 30, [30, 50, 60]), (1, 20, [20, 40, 60])],
)
def test_only_what_is_to_be_kept_stays(tmp_path, keep_last, keep_every, left):
    saved(tmp_path, *range(10, 70, 10), keep_last=keep_last, keep_every=keep_every)
    assert steps(tmp_path) == left


def test_keep_last_counts_those_of_former_starts(directory):
    saved(directory, 30, keep_last=2)
    assert steps(directory) == [20, 30]


@pytest.fixture
def full_disk(monkeypatch):
    """A context in which no file grows past 2,000 bytes: to TensorStore that is like a full disk."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # restored at the end
    orbax_setup.quiet()

    @contextlib.contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)  # before pytest writes the result, perhaps to a file

    return limited


def test_full_disk_names_what_is_whole_and_loses_nothing(directory, full_disk):
    checkpoints = open_checkpoints(directory)
    with full_disk():
        checkpoints.save(state(30), {})
        with pytest.raises(command.UserError) as failed:
            checkpoints.wait()
        checkpoints.close()
    assert f"cannot save the checkpoint of step 30 ({os.strerror(errno.EFBIG)})" in str(failed.value)
    assert f"the newest one is {directory / '20'}." in str(failed.value)
    assert steps(directory) == [10, 20]
    assert restored(directory) == (20, 20)
    saved(directory, 30)
    assert restored(directory) == (30, 30)


def test_a_failed_save_is_reported_at_the_next_step_not_at_the_next_save(directory, full_disk):
    checkpoints = open_checkpoints(directory)
    checkpoints.check()  # nothing yet
    with full_disk():
        checkpoints.save(state(30), {})
        with pytest.raises(command.UserError, match="step 30"):
            _look_often(checkpoints)
        checkpoints.close()


def _look_often(checkpoints):
    for _ in range(1000):
        checkpoints.check()
        time.sleep(0.01)


FULL_DISK = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[3])
import saved_states
from bert_tpu.core import command
from bert_tpu.training import checkpoint, orbax_setup, saved_params
def main():
    orbax_setup.quiet()
    directory, params_alone = pathlib.Path(sys.argv[1]), sys.argv[2] == "params"
    checkpoints = saved_states.open_checkpoints(directory)
    state = saved_states.state(30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
    if params_alone:
        saved_params.save_params(directory / "alone", state.params)
    checkpoints.save(state, {})
    checkpoints.close()
command.run(main)
"""


@pytest.mark.parametrize("what", ["the checkpoint of step 30", "params"])
def test_full_disk_is_one_sentence_on_stderr_whatever_the_libraries_log(directory, what):
    command_line = [sys.executable, "-c", FULL_DISK, directory, what, HERE]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: cannot save {directory / 'alone' if what == 'params' else what}")


def test_sums_are_what_sha256sum_checks(directory):
    named = {line.split("  ")[1] for line in (directory / "20" / "SHA256SUMS").read_text().splitlines()}
    items = [path for item in checkpoint.ITEMS for path in (directory / "20" / item).rglob("*")]
    assert named == {path.relative_to(directory / "20").as_posix() for path in items if path.is_file()}


@pytest.mark.parametrize("name", ["params/manifest.ocdbt", "opt/_METADATA", "meta/metadata"])
def test_a_save_whose_files_are_gone_is_not_completed(directory, name):
    (directory / "20" / name).unlink()
    (directory / "20" / checksums.FILE).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        checksums.write(epath.Path(directory / "20"), checkpoint.ITEMS)
    assert not (directory / "20" / checksums.FILE).exists()


@pytest.mark.parametrize("place", ["", "20", "workdir"])
def test_parameters_load_from_a_step_its_folder_or_a_workdir(directory, place):
    path = directory.parent if place == "workdir" else directory / place
    jax.tree.map(np.testing.assert_array_equal, saved_params.load_params(path), jax.device_get(state(20).params))


def test_parameters_of_other_shapes_are_named(directory):
    wider = {"table": jax.ShapeDtypeStruct((50, 48), np.float32, sharding=WHOLE), "bias": like().params["bias"]}
    with pytest.raises(command.UserError, match=r"another model's: table is \(50, 40\) there and \(50, 48\) in this"):
        saved_params.load_params(directory, wider)
    more = like().params | {"new": like().params["bias"]}
    with pytest.raises(command.UserError, match=r"new is absent there and \(1,\) in this config"):
        saved_params.load_params(directory, more)


def test_parameters_come_from_the_newest_sound_checkpoint(directory, capsys):
    flip(largest(directory / "20" / "params"))
    jax.tree.map(np.testing.assert_array_equal, saved_params.load_params(directory), jax.device_get(state(10).params))
    assert re.search(
        r"warning: .*/20 cannot be read \(params/.* is damaged\); an older one is tried\n", capsys.readouterr().err
    )
    assert (directory / "20").exists()


def test_no_sound_parameters_are_refused(directory, capsys):
    for step in directory.iterdir():
        flip(largest(step / "params"))
    with pytest.raises(command.UserError, match=r"no checkpoint of .* is sound"):
        saved_params.load_params(directory)
    with pytest.raises(command.UserError, match="20 is sound"):
        saved_params.load_params(directory / "20")
    assert "is damaged" in capsys.readouterr().err


def test_parameters_alone_make_a_checkpoint(tmp_path):
    params = jax.device_get(state(3).params)
    saved_params.save_params(tmp_path, params)
    jax.tree.map(np.testing.assert_array_equal, saved_params.load_params(tmp_path, like().params), params)


def test_place_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(command.UserError, match=r"no checkpoint in .*bert-tpu import"):
        saved_params.load_params(tmp_path / "none")
