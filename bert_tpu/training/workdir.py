"""A run's directory, the workdir: it belongs to one config, and to one group of processes at a time."""

from collections.abc import Collection, Iterator
import contextlib
import hashlib
import json
import pathlib
import tempfile
from typing import Any

from etils import epath

from bert_tpu.core import command, json_files, locks, storage
from bert_tpu.core import config as configs
from bert_tpu.distributed import hosts
from bert_tpu.monitoring import versions
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint_steps

# The format says what checkpoints rely on. 1: the order of batches up to release 0.1, and an optimizer state that
# counts the steps of the rate. 2: the order of 0.2, and a rate that is a function of the state's step. 3: other chunks
# have short targets in pretraining. A workdir without FORMAT_FILE has format 1.
FORMAT, FORMAT_FILE = 3, "format.json"
SAME_FOR_TASKS = 2  # and later ones: a fine-tuning has no chunks
# Keys that change how a step is computed, not what: versions.json records them, because a change moves rounding.
RECORDED = ("model.remat", "exchange", "accumulate", "accumulate_long")
# Keys that may change between two starts of a run, because none alters what it learns. A hash identifies the corpus.
SERVICES = ("log.", "eval.", "checkpoint.", "profile.", "watchdog.", "nonfinite.", "plan.")
FREE_IN_1 = (*SERVICES, "compile_cache", "data.dir")
PATHS = {  # hash -> key of what it is of
    "corpus.sha256": "data.dir", "distill.sha256": "distill.teacher", "start.sha256": "init_from",
}  # fmt: skip
NAMED = 5  # keys that a refusal names
LATER = ("start.sha256",)  # facts that a run of 0.2 has not recorded: it may go on without
# A hash identifies the teacher. "bert." is the model that a fine-tuning starts from, whose own key overrides
# "bert.remat".
FREE = (*FREE_IN_1, *RECORDED, "bert.remat", "distill.teacher", *configs.REMOVED)


@contextlib.contextmanager
def claim(
    directory: epath.Path | str,
    config: dict[str, Any],
    *,
    group: hosts.Hosts | None = None,
    local_keys: Collection[str] = (),
) -> Iterator[None]:
    """Reserves `directory` for this run while the context lasts, and writes `config` to its config.json.

    directory: the workdir
    config: plain nested dictionary
    group: the hosts that share the directory. They first compare `config` and the versions of their software; then
        host 0 claims the directory for all. None: this process alone
    local_keys: dotted keys of `config` that may differ between hosts

    Raises UserError if the hosts differ, if another run uses the directory, if it has files of something else, or
    if it has a checkpoint of another config or format. Without a checkpoint there is nothing to protect, and a
    mistaken config may be fixed.
    """
    storage.check_orbax_can_write(directory, "--workdir")
    group, directory = group or hosts.Hosts(), epath.Path(directory)
    facts = {key: value for key, value in flatten(config).items() if key not in local_keys}
    group.agree(facts | {"workdir": str(directory)} | versions.current())
    with _claim_alone(directory, config) if group.index == 0 else contextlib.nullcontext():
        group.gather(None)
        yield


@contextlib.contextmanager
def _claim_alone(directory: epath.Path, config: dict[str, Any]) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    # In a bucket, only Checkpoints.save detects a second run, by its newer checkpoint.
    with locks.hold(directory / ".lock") as is_ours:
        if not is_ours:
            raise command.UserError(f"another run is using {directory}: stop it or give another --workdir")
        path = directory / "config.json"
        _check_ours(directory, path)
        if path.exists() and checkpoint_steps.of_workdir(directory):
            check(directory, config)
        storage.write_text(path, json.dumps(config, indent=1, sort_keys=True) + "\n")
        storage.write_text(directory / FORMAT_FILE, json.dumps({"format": FORMAT}) + "\n")
        yield


def _check_ours(directory: epath.Path, path: epath.Path) -> None:
    """Raises UserError for a folder of something else, such as a model or text. path: of its config.json."""
    if path.exists():
        if "model_type" in _read(path):
            raise command.UserError(f"{directory} holds a Hugging Face model: give another --workdir")
        return
    strange = sorted(
        entry.name for entry in storage.named(directory, "*") if not entry.name.startswith((".", path.name))
    )
    if strange:
        raise command.UserError(f"{directory} holds {strange[0]} and no run: give a --workdir that is new or empty")


def check(directory: epath.Path | str, config: dict[str, Any]) -> None:
    """Raises UserError unless the run in `directory` has this format and `config`, as passed to `claim`."""
    check_format(directory)
    _compare(read_config(directory), json.loads(json.dumps(config)), directory)


def check_format(directory: epath.Path | str) -> None:
    """Raises UserError for a run of another format, if it has a checkpoint: its batches and optimizer state differ.

    Must be called before the run's data are read, because these may have an old format too.
    """
    directory = epath.Path(directory)
    number = json_files.read_if_any(directory / FORMAT_FILE, {"format": int}).get("format", 1)
    if number == FORMAT or not checkpoint_steps.of_workdir(directory):
        return
    is_task = "task" in read_config(directory)
    if is_task and SAME_FOR_TASKS <= number < FORMAT:
        return
    commits = [entry["commit"] for entry in versions.read(directory) if entry.get("commit")]
    release = f"that release (commit {commits[-1]})" if commits else "that release"
    start = "a new --workdir"
    # A fine-tuning cannot start from another fine-tuning, which may have several seeds.
    if not is_task:
        start += f" with --config.init_from={directory}"
        start += " and a corpus that this release has prepared" if number == 1 else ""
    age = "an earlier" if number < FORMAT else "a later"
    raise command.UserError(
        f"{directory} was begun by {age} release, whose batches or optimizer state differ from this one's: "
        f"finish it with {release}, or start {start}"
    )


def write_tokenizer(directory: epath.Path | str, vocabulary: vocab.Vocab) -> None:
    """Writes the tokenizer of `vocabulary` to `directory`/tokenizer."""
    folder = epath.Path(directory) / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as local:  # a bucket takes whole files only
        vocab.save(vocabulary, local)
        for path in pathlib.Path(local).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


def read_config(directory: epath.Path | str) -> dict[str, Any]:
    """Returns the config of the run in `directory`. Raises UserError if there is no run, as in an exported model."""
    path = epath.Path(directory) / "config.json"
    why = "it has no config.json"
    if path.exists():
        config = _read(path)
        if "model_type" not in config:
            return config
        why = "it is a Hugging Face model"
    raise command.UserError(f"{directory} holds no run, {why}: give the --workdir of bert-tpu pretrain or finetune")


def model_section(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the `model` section for the encoder of a run or import with this config.json, of any release.

    A fine-tuning's own keys override those of the model that it started from.
    """
    stored = configs.current(config)
    return stored.get("bert", {}) | stored["model"]


def _read(path: epath.Path) -> dict[str, Any]:
    return json_files.read(path, remedy="restore it or give another --workdir")


def identity(config: dict[str, Any]) -> str:
    """Returns 16 digits of a SHA-256 over all keys that decide what a run learns: the same for all of its starts."""
    return _digest(_decisive(config))


def has_identity(config: dict[str, Any], digits: str | None) -> bool:
    """Returns whether `digits` are the `identity` of a run with this config, by today's rule or that of format 1."""
    return digits in (identity(config), _digest(_decisive(config, FREE_IN_1)))


def recorded_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of a config, with values, that versions.json records (RECORDED)."""
    return {key: value for key, value in flatten(config).items() if key in RECORDED}


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _decisive(config: dict[str, Any], free: tuple[str, ...] = FREE) -> dict[str, Any]:
    """Returns the dotted keys, with values, that decide what a run learns. A key that is off may be missing there.

    free: keys to leave out; a name with a dot at its end is a section
    """
    sections = tuple(name for name in free if name.endswith("."))
    decisive = configs.without_added(flatten(config)).items()
    return {key: value for key, value in decisive if key not in free and not key.startswith(sections)}


def _compare(old_config: dict[str, Any], new_config: dict[str, Any], directory: epath.Path | str) -> None:
    old, new, differences = _decisive(old_config), _decisive(new_config), []
    for key in sorted(old.keys() | new.keys()):
        off = configs.ADDED.get(key)
        there, here = old.get(key, off), new.get(key, off)
        if there != here and not (key in LATER and key not in old):
            paths = [flatten(config).get(PATHS[key]) for config in (old_config, new_config) if key in PATHS]
            whose = " ({0} {2}; it was {1})".format(PATHS[key], *paths) if paths else ""
            differences.append(f"{key} is {there!r} there and {here!r} here{whose}")
    if differences:
        more = f", and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        values = "the old value" if len(differences) == 1 else "the old values"
        raise command.UserError(
            f"{directory} belongs to another config: {', '.join(differences[:NAMED])}{more}; give another "
            f"--workdir, or restore {values}"
        )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested dictionaries as one, with keys joined by dots; `prefix` is put in front of each key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
