"""Puts the kept checkpoints of a run on the Hub, each as the revision step-N, and the newest as main.

Each checkpoint is exported to a temporary directory, and checked as any export is. WORKDIR/pushed.json keeps the commit
of each revision and the sums of its checkpoint, so that the next push neither exports nor uploads what is complete. It
also says which commits of main came from here: main moves on from them, and from no other.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
from pathlib import Path
import tempfile
from typing import Any

from etils import epath

from bert_tpu.core import command, json_files, storage
from bert_tpu.export import pytorch
from bert_tpu.huggingface import upload
from bert_tpu.report import model_card
from bert_tpu.training import checkpoint_steps, checksums

FILE = "pushed.json"
SHAPE = {str: {str: {"commit": str, "source": str}}}  # repository -> branch -> its commit, and what was exported


def branch(step: int) -> str:
    """The revision of a checkpoint."""
    return f"step-{step}"


def sound_steps(workdir: str | Path) -> tuple[list[int], list[str]]:
    """Returns the steps of a workdir's sound checkpoints, sorted, and a sentence for each that is damaged.

    Raises UserError if none is sound.
    """
    steps, complaints = [], []
    for step in checkpoint_steps.of_workdir(workdir):
        path = epath.Path(workdir) / "checkpoints" / str(step)
        try:
            checksums.check(path, ("params",))
            steps.append(step)
        except (ValueError, OSError) as error:
            complaints.append(f"{path} is left out: {error}")
    if not steps:
        raise command.UserError(f"{workdir} has no sound checkpoint: give a workdir that has one, or restore it")
    return steps, complaints


class Pusher:
    """Pushes the checkpoints of one workdir to one repository."""

    def __init__(
        self, workdir: str | Path, repository: upload.Repository, *, seed: int | None, pool: str, replace: bool,
        tell: Callable[[str], None],
    ):  # fmt: skip
        """Reads pushed.json.

        seed: of a fine-tuning; None for the best at the newest checkpoint
        pool: as pytorch.export takes it
        replace: whether other content of a revision is replaced
        tell: gets a line for each revision that is done
        """
        self._workdir, self._repository, self._tell = Path(workdir), repository, tell
        self._seed, self._pool, self._replace, self._options = seed, pool, replace, (seed, pool)
        self._path = self._workdir / FILE
        self._pushed = json_files.read_if_any(self._path, SHAPE).setdefault(repository.name, {})

    def push(self, steps: list[int]) -> None:
        """Pushes the checkpoints of `steps` in their order, then the last one as main.

        Raises UserError, before anything is uploaded, if main has content that did not come from here. Revisions that
        are complete stay complete if a later one fails.
        """
        newest = steps[-1]
        heads = self._repository.heads()
        if self._is_done(heads, upload.MAIN, newest) and all(self._is_done(heads, branch(n), n) for n in steps):
            for name in (*map(branch, steps), upload.MAIN):
                self._tell(f"{name}: complete")
            return
        with self._export(newest) as main:
            if not self._replace:
                self._repository.check(main, upload.MAIN, known=self._commit(upload.MAIN))
            for step in steps:
                if self._is_done(heads, branch(step), step):
                    self._tell(f"{branch(step)}: complete")
                elif step == newest:
                    self._upload_revision(main, step)
                else:
                    with self._export(step) as directory:
                        self._upload_revision(directory, step)
            self._upload(main, upload.MAIN, newest)

    @contextlib.contextmanager
    def _export(self, step: int) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="bert_tpu-push-") as folder:
            out = Path(folder) / "model"
            done = pytorch.export(
                self._workdir, out, self._seed, step=step, name=self._repository.name, pool=self._pool
            )
            self._seed = done.seed  # of a fine-tuning: the other revisions are of the newest one's seed too
            yield out

    def _upload_revision(self, directory: Path, step: int) -> None:
        """Uploads an export as step-N. Meanwhile its card loads that revision."""
        path = directory / upload.CARD
        card = path.read_text(encoding="utf-8")
        path.write_text(model_card.with_revision(card, self._repository.name, branch(step)), encoding="utf-8")
        self._upload(directory, branch(step), step)
        path.write_text(card, encoding="utf-8")

    def _upload(self, directory: Path, name: str, step: int) -> None:
        outcome = self._repository.push(
            directory, name, message=f"Step {step:,}", known=self._commit(name), replace=self._replace,
            keeps_card=name != upload.MAIN,
        )  # fmt: skip
        note = f"; its {upload.CARD} is another and stays, --replace replaces it" if outcome.is_card_kept else ""
        self._tell(f"{name}: {'complete' if outcome.was_complete else 'uploaded'}{note}")
        self._pushed[name] = {"commit": outcome.commit, "source": self._source(step)}
        # Read again: another process may have pushed to another repository meanwhile.
        content = json_files.read_if_any(self._path, SHAPE) | {self._repository.name: self._pushed}
        storage.write_bytes(self._path, storage.json_bytes(content))

    def _is_done(self, heads: dict[str, str], name: str, step: int) -> bool:
        entry = self._pushed.get(name)
        return entry == {"commit": heads.get(name), "source": self._source(step)}

    def _commit(self, name: str) -> str:
        return self._pushed.get(name, {"commit": ""})["commit"]

    def _source(self, step: int) -> str:
        """A hash of what decides the content of a revision: the checkpoint's sums and the options of the export."""
        facts: list[Any] = [(self._workdir / "checkpoints" / str(step) / checksums.FILE).read_text(), self._options]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
