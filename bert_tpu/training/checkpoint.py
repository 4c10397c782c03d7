"""Orbax checkpoints: written in the background, whole or not at all, and restored from the newest that is sound.

STEP/params and STEP/opt hold the arrays (`params` restores alone), STEP/meta is JSON with the rest that a restart
needs, and STEP/SHA256SUMS covers every file of these three, for each restart and for `sha256sum -c`.

Four hosts write one checkpoint together. All call `save` after the same step, and each copies its arrays to its own
memory before training goes on. In the background, each host writes the rows of the matrices that its devices store;
host 0 also writes the small arrays, which every device has whole. They write to STEP.orbax-checkpoint-tmp. When all
hosts have reported that their files are complete, host 0 writes SHA256SUMS and renames the directory to STEP. So a
directory with the name of a step is complete, whichever host was killed. At a restart host 0 picks the newest step
whose sums are right, and all hosts restore that one.
"""

import functools
import itertools
import logging
import os
import re
import sys

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from bert_tpu.core import command, storage
from bert_tpu.distributed import hosts
from bert_tpu.training import checksums

ITEMS = ("params", "opt", "meta")


@functools.cache
def _register_array_handler():
    """Makes Orbax write arrays that all devices have whole from one host.

    Large arrays are cut over the devices already. To cut the small ones too, so that all hosts may write them, Orbax
    would compile a program for each shape at the first save.
    """
    logging.disable(logging.WARNING)  # Orbax warns that its default handler is replaced, which is meant
    ocp.type_handlers.register_type_handler(
        jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False), override=True
    )
    logging.disable(logging.NOTSET)


class Checkpoints:
    """The checkpoints of one run in `directory`, of which the last `keep_last` and every `keep_every`-th stay."""

    def __init__(self, *, directory, every_steps, keep_last, keep_every, group=None):
        """keep_every: 0 keeps none besides the last. group: the hosts that save and restore together, in one folder."""
        _register_array_handler()
        self.every_steps, self._group = every_steps, group or hosts.Hosts()
        self.directory = storage.absolute(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._saving = None  # the step that was given to Orbax last
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep_last,
                keep_period=keep_every or None,
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_sums),
            ),
            item_names=ITEMS,
        )

    def save(self, state, meta):
        """Starts writing; returns once the arrays are copied. Raises UserError rather than overwrite a newer one."""
        self.wait()
        step = int(state.step)
        newest = max(self._on_disk(), default=-1)
        if newest >= step:
            raise command.UserError(
                f"{self.directory / str(newest)} is newer than this run's step {step}: another run writes to this "
                "workdir; stop one of them"
            )
        self._saving = step
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            opt=ocp.args.StandardSave(state.opt),
            meta=ocp.args.JsonSave(meta),
        )
        try:
            self._manager.save(step, args=args)
        except Exception as fault:  # of whatever layer below met the disk
            raise self._failed(fault) from fault

    def _write_sums(self):
        # Orbax calls this on the process that commits, when all files are written and the directory is to be renamed.
        # On a bucket, which cannot rename, it has its name already.
        path = next(self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"), self.directory / str(self._saving))
        checksums.write(path, ITEMS)

    def check(self):
        """Raises UserError if the last save has failed by now; never waits."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self):
        """Returns once what was begun is on disk; UserError if it cannot be."""
        try:
            self._manager.wait_until_finished()
        except Exception as fault:
            raise self._failed(fault) from fault

    def close(self):
        """Waits and releases the writer."""
        self.wait()
        # Orbax sweeps what an earlier run left half written in the background, and waits for that in `save` alone; the
        # next to open the directory would sweep at the same time and find files gone.
        self._manager._maybe_await_cleanup_tmp_directory()
        self._manager.close()

    def _failed(self, fault):
        whole = max(self._on_disk(), default=None)
        left = "no earlier one exists" if whole is None else f"{self.directory / str(whole)} is whole"
        return command.UserError(
            f"cannot save the checkpoint of step {self._saving} ({_reason(fault)}); {left}: mend that, perhaps by "
            "freeing space, and run the same command again"
        )

    def _on_disk(self):
        return [int(path.name) for path in self.directory.iterdir() if path.name.isdigit()]

    def restore(self, state):
        """(State, meta) of the newest checkpoint that is sound; None where there is no checkpoint.

        state: shapes and shardings. Newer ones that are damaged are reported by name and set aside, so that their
        steps can be saved again. Raises UserError, with all left in its place, if none is sound or it cannot be read.
        """
        step = self._group.first(self._newest_sound)
        self._manager.reload()  # what was set aside
        if step is None:
            return None
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(state.params),
            opt=ocp.args.StandardRestore(state.opt),
            meta=ocp.args.JsonRestore(),
        )
        try:
            items = self._manager.restore(step, args=args)
        except Exception as fault:
            raise self._unreadable(_reason(fault)) from fault
        step, waits = jax.device_put((np.int32(step), np.False_), (state.step.sharding, state.waits.sharding))
        return state._replace(step=step, params=items.params, opt=items.opt, waits=waits), items.meta

    def _newest_sound(self):
        """The newest step whose files are as they were written; for one host, so that all restore the same."""
        unsound = {}
        for path in (self.directory / str(step) for step in sorted(self._on_disk(), reverse=True)):
            try:
                checksums.check(path, ITEMS)
            except (ValueError, OSError) as fault:
                unsound[path] = _reason(fault)
                continue
            _set_aside(unsound)
            return int(path.name)
        if unsound:
            raise self._unreadable(next(iter(unsound.values())))
        return None

    def _unreadable(self, reason):
        return command.UserError(
            f"no checkpoint in {self.directory} can be read (the newest: {reason}): restore one, "
            "or give another --workdir"
        )


def _set_aside(unsound):
    for path, reason in unsound.items():
        names = (path.with_name(f"{path.name}.unreadable{n or ''}") for n in itertools.count())
        aside = path.rename(next(name for name in names if not name.exists()))
        print(f"warning: {path} cannot be read ({reason}): it is now {aside.name}", file=sys.stderr)


def find(path) -> epath.Path:
    """The checkpoint that `path` means: itself (it holds `params`), or the newest of a workdir with sound parameters.

    Newer ones are reported by name and left where they are. Raises UserError where there is none.
    """
    path = storage.absolute(path)
    if (path / "params").exists():
        found = [path]
    else:
        folders = [folder for folder in (path / "checkpoints", path) if folder.is_dir()]
        found = [step for folder in folders for step in folder.iterdir() if step.name.isdigit()]
        found.sort(key=lambda step: int(step.name), reverse=True)
    for checkpoint in found:
        try:
            if (checkpoint / checksums.FILE).exists() or checkpoint != path:  # an imported model has no sums
                checksums.check(checkpoint, ("params",))
            return checkpoint
        except (ValueError, OSError) as fault:
            print(f"warning: {checkpoint} cannot be read ({_reason(fault)}); an older one is tried", file=sys.stderr)
    if found:
        raise command.UserError(f"no checkpoint of {path} is sound: restore one from a copy")
    raise command.UserError(f"no checkpoint in {path}: give a workdir that has one, or what tools.import_pytorch made")


def load_params(path, like=None):
    """Parameters of the checkpoint that `path` means, as NumPy arrays, or shaped and placed as `like`.

    Raises UserError if they cannot be read or are of other shapes.
    """
    path = find(path)
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            if like is not None:
                _check_shapes(path, checkpointer.metadata(path / "params").item_metadata.tree, like)
            return checkpointer.restore(path / "params", like)
        except command.UserError:
            raise
        except Exception as fault:  # as in Checkpoints.restore
            raise command.UserError(f"cannot read the parameters of {path}: {_reason(fault)}") from fault


def save_params(path, params):
    """Writes `path/params`: a checkpoint without an optimizer, for `init_from` and export."""
    _register_array_handler()
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(storage.absolute(path) / "params", params, force=True)
    except Exception as fault:  # of whatever layer below met the disk
        raise command.UserError(
            f"cannot save {path} ({_reason(fault)}); mend that, perhaps by freeing space"
        ) from fault


def _check_shapes(path, tree, like):
    theirs, ours = _shapes(tree), _shapes(like)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise command.UserError(
                f"the parameters of {path} are another model's: {name} is {theirs.get(name, 'absent')} there and "
                f"{ours.get(name, 'absent')} in this config"
            )


def _shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves}


def _reason(fault):
    """What a library says of a fault, in a few words."""
    number = re.search(r"os_error_code='(\d+)'", str(fault))  # how TensorStore says errno, in the end
    if number:
        return os.strerror(int(number[1]))
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0][:300]


def quiet_orbax():
    """From here on Orbax prints nothing of its own: a fault is what it raises."""
    # It logs the traceback of each error that it also raises.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # And when one array fails, each of the others finds the event loop closed.
    told = sys.unraisablehook
    sys.unraisablehook = lambda fault: None if "Event loop is closed" in str(fault.exc_value) else told(fault)
