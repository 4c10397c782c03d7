"""Reads and writes the parameters of a checkpoint without its optimizer."""

import sys
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from bert_tpu.core import command, storage
from bert_tpu.training import checkpoint_steps, checksums, jobs, orbax_setup


def find(path: epath.Path | str, step: int | None = None) -> epath.Path:
    """Returns the checkpoint that `path` means; of a workdir with a `step`, that step's.

    That is `path` itself if it has `params`, else the newest one of a workdir, or of its folder of checkpoints, whose
    parameters are sound. Newer ones are reported and stay as they are. Raises UserError if there is none.
    """
    path = storage.absolute(path)
    if step is not None:
        if step not in (others := checkpoint_steps.of_workdir(path)):
            raise command.UserError(f"{path} has no checkpoint of step {step}: it has those of {others or 'none'}")
        path = path / "checkpoints" / str(step)
    if (path / "params").exists():
        candidates = [path]
    else:
        folders = [folder for folder in (path / "checkpoints", path) if folder.is_dir()]
        candidates = [folder / str(number) for folder in folders for number in checkpoint_steps.complete(folder)]
        candidates.sort(key=lambda checkpoint: int(checkpoint.name), reverse=True)
    for checkpoint in candidates:
        try:
            if (checkpoint / checksums.FILE).exists() or checkpoint != path:  # an imported model has no sums
                checksums.check(checkpoint, ("params",))
            return checkpoint
        except (ValueError, FileNotFoundError) as fault:
            more = "" if checkpoint == candidates[-1] else "; an older one is tried"
            print(f"warning: {checkpoint} cannot be read ({orbax_setup.reason(fault)}){more}", file=sys.stderr)
    if candidates:
        raise command.UserError(f"no checkpoint of {path} is sound: restore one from a copy")
    raise command.UserError(
        f"no checkpoint in {path}: give a workdir that has one, or a directory written by bert-tpu import"
    )


def load_params(path: epath.Path | str, like: jobs.Params | None = None) -> jobs.Params:
    """Returns the parameters of the checkpoint that `path` means (`find`).

    path: a checkpoint, a folder of checkpoints or a workdir
    like: shapes, types and shardings of the result; None: NumPy arrays, as they were saved

    Raises UserError if the parameters cannot be read or have other shapes than `like`.
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
            raise command.UserError(f"cannot read the parameters of {path}: {orbax_setup.reason(fault)}") from fault


def save_params(path: epath.Path | str, params: jobs.Params) -> None:
    """Writes `params` to `path`/params: a checkpoint without an optimizer, for `init_from` and export."""
    orbax_setup.register_array_handler()
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(storage.absolute(path) / "params", params, force=True)
    except Exception as fault:  # as in Checkpoints.save
        raise command.UserError(
            f"cannot save {path} ({orbax_setup.reason(fault)}): free space, or check the disk"
        ) from fault


def _check_shapes(path: epath.Path, tree: Any, like: Any) -> None:
    theirs, ours = _shapes(tree), _shapes(like)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise command.UserError(
                f"the parameters of {path} are another model's: {name} is {theirs.get(name, 'absent')} there and "
                f"{ours.get(name, 'absent')} in this config"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves}
