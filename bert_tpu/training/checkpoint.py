"""Orbax checkpoints: written in the background, complete or not at all, and restored from the newest sound one.

STEP/params and STEP/opt have the arrays (`params` can be restored alone). STEP/meta is JSON with the rest that a
restart needs. STEP/SHA256SUMS covers every file of these three; each restart checks it, and so can `sha256sum -c`.

Four hosts write one checkpoint together. All call `save` after the same step, and each copies its arrays to its own
memory before training goes on. In the background, each host writes the rows of the matrices that its devices store;
host 0 also writes the small arrays, which every device has whole. They write to STEP.orbax-checkpoint-tmp. When all
hosts have reported that their files are complete, host 0 writes SHA256SUMS and renames the directory to STEP. So a
directory with the name of a step is complete, whichever host was killed. A bucket renames nothing: there the files are
written to STEP, and an object commit_success.txt says that they are complete. At a restart host 0 picks the newest step
whose sums are right, and all hosts restore that one.
"""

import itertools
import sys
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from bert_tpu.core import command, storage
from bert_tpu.distributed import hosts
from bert_tpu.hardware import device_memory
from bert_tpu.training import checkpoint_steps, checksums, jobs, orbax_setup

ITEMS = ("params", "opt", "meta")


class Checkpoints:
    """The checkpoints of one run, in `directory`."""

    def __init__(
        self,
        *,
        directory: epath.Path | str,
        every_steps: int,
        keep_last: int,
        keep_every: int,
        group: hosts.Hosts | None = None,
    ) -> None:
        """Opens the directory and deletes checkpoints that an earlier run left half written.

        directory: W/checkpoints
        every_steps: steps between two saves, for the loop
        keep_last: number of newest checkpoints that stay
        keep_every: checkpoints whose step is a multiple of it stay too; 0: none
        group: the hosts that save and restore together, in one folder; None: this process alone
        """
        orbax_setup.register_array_handler()
        self.every_steps, self._group = every_steps, group or hosts.Hosts()
        self.directory = storage.absolute(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._group.index == 0:
            checkpoint_steps.commit_copies(self.directory)
        self._saving: int | None = None  # the last step that Orbax was asked to save
        self._may_fail = False  # whether that save may still fail
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

    def save(self, state: jobs.State, meta: dict[str, Any]) -> None:
        """Starts to write a checkpoint and returns once the arrays are copied.

        Raises UserError if the last save failed, or if the directory has a checkpoint of this step or a later one.
        """
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
            self._may_fail = True
            self._manager.save(step, args=args)
        except Exception as fault:  # each layer below raises its own type when the disk is full
            raise self._failed(fault) from fault

    def _write_sums(self) -> None:
        # Orbax calls this on the process that commits, when all files are written and before the directory is renamed.
        # In a bucket, which cannot rename, the directory has its final name already.
        partial = storage.named(self.directory, f"{self._saving}.orbax-checkpoint-tmp*")
        path = partial[0] if partial else self.directory / str(self._saving)
        checksums.write(path, ITEMS)

    def check(self) -> None:
        """Raises UserError if the last save has failed by now; never waits."""
        if self._may_fail and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until the last save is on disk. Raises UserError if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as fault:
            raise self._failed(fault) from fault
        self._may_fail = False

    def close(self) -> None:
        """Waits for the last save and releases the writer."""
        self.wait()
        # Orbax deletes half-written checkpoints of an earlier run in the background, and waits for that only in `save`.
        # If the directory were opened again meanwhile, two deletions would run at once and one would miss its files.
        self._manager._maybe_await_cleanup_tmp_directory()
        self._manager.close()

    def _failed(self, fault: Exception) -> command.UserError:
        newest = max(set(self._on_disk()) - {self._saving}, default=None)
        rest = "there is no earlier one" if newest is None else f"the newest one is {self.directory / str(newest)}"
        return command.UserError(
            f"cannot save the checkpoint of step {self._saving} ({orbax_setup.reason(fault)}); {rest}. Free space, or "
            "check the disk or the network, and run the same command again"
        )

    def _on_disk(self) -> list[int]:
        return checkpoint_steps.complete(self.directory)

    def restore(self, state: jobs.State) -> tuple[jobs.State, dict[str, Any]] | None:
        """Returns (State, meta) of the newest sound checkpoint; None if there is no checkpoint.

        state: shapes, types and shardings, as trainer.abstract_state returns them

        Reports newer checkpoints that are damaged, and renames them, so that their steps can be saved again. Raises
        UserError, and renames nothing, if no checkpoint is sound or the newest sound one cannot be read.
        """
        # Orbax deletes half-written checkpoints in the background. In a bucket they have the name of a step.
        self._manager._maybe_await_cleanup_tmp_directory()
        step = self._group.broadcast(self._newest_sound)
        self._manager.reload()  # without those that _newest_sound renamed
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
            if device_memory.is_shortage(fault):
                raise  # explain_shortage says what helps
            raise self._unread(self.directory / str(step), fault) from fault
        return jobs.State(jax.device_put(np.int32(step), state.step.sharding), items.params, items.opt), items.meta

    def _newest_sound(self) -> int | None:
        """Returns the newest step whose files have the right sums. One host calls it, so that all restore the same.

        Raises UserError if a file cannot be read: a disk or a network may fail for a moment.
        """
        unsound: dict[epath.Path, str] = {}
        for path in (self.directory / str(step) for step in sorted(self._on_disk(), reverse=True)):
            try:
                checksums.check(path, ITEMS)
            except (ValueError, FileNotFoundError) as fault:
                unsound[path] = orbax_setup.reason(fault)
                continue
            except OSError as fault:
                raise self._unread(path, fault) from fault
            _rename_unsound(unsound)
            return int(path.name)
        if unsound:
            raise self._unreadable(next(iter(unsound.values())))
        return None

    def _unread(self, path: epath.Path, fault: Exception) -> command.UserError:
        return command.UserError(
            f"{path} could not be read ({orbax_setup.reason(fault)}); nothing was changed: check the disk or the "
            "network, and run the same command again"
        )

    def _unreadable(self, reason: str) -> command.UserError:
        return command.UserError(
            f"no checkpoint in {self.directory} can be read (the newest: {reason}): restore one, "
            "or give another --workdir"
        )


def _rename_unsound(unsound: dict[epath.Path, str]) -> None:
    """Renames each damaged checkpoint to STEP.unreadable and reports it. unsound: checkpoint -> what is wrong."""
    for path, reason in unsound.items():
        names = (path.with_name(f"{path.name}.unreadable{n or ''}") for n in itertools.count())
        aside = path.rename(next(name for name in names if not name.exists()))
        print(f"warning: {path} cannot be read ({reason}): it is now {aside.name}", file=sys.stderr)
