"""Lists the complete checkpoints of a workdir, without reading one."""

from etils import epath

from bert_tpu.core import storage
from bert_tpu.training import checksums

COMMITTED = "commit_success.txt"  # Orbax's object in a bucket, where a checkpoint has its name before it is complete


def complete(directory: epath.Path) -> list[int]:
    """Returns the steps whose checkpoints in `directory`, a workdir's `checkpoints`, were written to their end."""
    folders = [path for path in storage.named(directory, "[0-9]*") if path.name.isdigit()]
    if storage.is_bucket(directory):
        folders = [path for path in folders if any((path / name).exists() for name in (COMMITTED, checksums.FILE))]
    return [int(path.name) for path in folders]


def commit_copies(directory: epath.Path) -> None:
    """Marks complete checkpoints in a bucket that have no COMMITTED, such as copies from a disk, or Orbax deletes them.

    directory: a workdir's `checkpoints`
    """
    if storage.is_bucket(directory):
        for path in (directory / str(step) for step in complete(directory)):
            if not (path / COMMITTED).exists():
                (path / COMMITTED).write_text("")


def of_workdir(directory: epath.Path | str) -> list[int]:
    """Returns the steps of the complete checkpoints in a workdir, sorted."""
    return sorted(complete(epath.Path(directory) / "checkpoints"))
