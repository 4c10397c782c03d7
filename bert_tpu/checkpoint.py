"""Orbax checkpoints: parameters, optimizer and step, saved in the background, restored from the newest whole one."""

import sys

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from bert_tpu import command

UNREADABLE = ".unreadable"


class Checkpoints:
    """The checkpoints of one run, `directory/STEP/{params,opt,meta}`; `params` restores alone."""

    def __init__(self, *, directory, every_steps, keep_last, keep_every):
        """Keeps the last `keep_last` and every `keep_every`-th (0: none besides)."""
        self.every_steps = every_steps
        self.directory = epath.Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._mine = -1
        self._manager = self._open(keep_last, keep_every)

    def _open(self, keep_last, keep_every):
        if keep_last < 1:
            raise command.UserError(f"config.checkpoint.keep_last {keep_last}: give 1 or more")
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep_last, keep_period=keep_every or None, cleanup_tmp_directories=True
            ),
            item_names=("params", "opt", "meta"),
        )

    def save(self, state, meta):
        """Starts writing `state`; returns once its arrays are copied. A newer checkpoint is never overwritten."""
        step = int(state.step)
        newest = max(self._on_disk(), default=-1)
        if newest >= step and newest != self._mine:
            raise command.UserError(
                f"{self.directory / str(newest)} is newer than this run's step {step}: another run writes to this workdir;"
                " stop one of them"
            )
        if newest == step:
            return
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    opt=ocp.args.StandardSave(state.opt),
                    meta=ocp.args.JsonSave(meta),
                ),
            )
        except Exception as error:
            raise self._failed(step, error) from error
        self._mine = step

    def wait(self):
        """Returns once what was begun is on disk."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failed(self._mine, error) from error

    def close(self):
        """Waits and releases the writer."""
        self.wait()
        self._manager.close()

    def _failed(self, step, error):
        whole = max((s for s in self._on_disk() if s != step), default=None)
        left = f"{self.directory / str(whole)} is whole" if whole is not None else "no earlier checkpoint exists"
        reason = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
        return command.UserError(f"cannot save the checkpoint of step {step} ({reason}); {left}: free space and run again")

    def _on_disk(self):
        return [int(path.name) for path in self.directory.iterdir() if path.name.isdigit()]

    def restore(self, state):
        """The newest readable checkpoint as a State like `state` (shapes and shardings), or None where there is none.

        One that cannot be read is reported by name, set aside as STEP.unreadable, and the one before it is taken.
        """
        for step in sorted(self._on_disk(), reverse=True):
            try:
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        params=ocp.args.StandardRestore(state.params), opt=ocp.args.StandardRestore(state.opt)
                    ),
                )
            except Exception as error:  # whatever a damaged file makes the reader say
                self._set_aside(step, error)
                continue
            self._mine = step
            return state._replace(
                step=jax.device_put(np.int32(step), state.step.sharding), params=restored.params, opt=restored.opt
            )
        return None

    def _set_aside(self, step, error):
        path = self.directory / str(step)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        print(f"warning: checkpoint {path} cannot be read ({reason}); trying the one before it", file=sys.stderr)
        path.rename(self.directory / f"{step}{UNREADABLE}")
        self._manager.reload()


def find(path) -> epath.Path:
    """The checkpoint that `path` means: itself (it holds `params`), or the newest of a workdir."""
    path = epath.Path(path).absolute()
    if (path / "params").exists():
        return path
    for directory in (path / "checkpoints", path):
        steps = [int(p.name) for p in directory.iterdir() if p.name.isdigit()] if directory.is_dir() else []
        if steps:
            return directory / str(max(steps))
    raise command.UserError(f"no checkpoint in {path}: give a workdir, or a folder that holds params/")


def load_params(path, like=None):
    """Parameters of the checkpoint at `path` as NumPy arrays, or shaped and placed as `like`."""
    path = find(path)
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            return checkpointer.restore(path / "params", like)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise command.UserError(f"cannot read the parameters of {path}: {reason}") from error


def save_params(path, params):
    """Writes `path/params`: a checkpoint without an optimizer, for `init_from` and export."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(epath.Path(path).absolute() / "params", params, force=True)
