"""One run's directory: it belongs to one config and to one process group at a time."""

import contextlib
import fcntl
import hashlib
import json
import pathlib
import tempfile

from etils import epath

from bert_tpu.core import command, storage
from bert_tpu.distributed import hosts
from bert_tpu.monitoring import versions
from bert_tpu.tokenizer import vocab

# What checkpoints take for granted: 1: the order of batches up to 0.1, and an optimizer state that counts the rate's
# steps; 2: the order of today, and the rate a function of the state's step. A workdir without FORMAT_FILE has 1.
FORMAT, FORMAT_FILE = 2, "format.json"
# How a step is computed, not what: versions.json records these keys, for a change moves rounding.
RECORDED = ("model.softmax", "model.remat")
# What may change between two starts of a run: none of it alters what is learnt. The corpus is known by its hash.
SERVICES = ("log.", "eval.", "checkpoint.", "profile.", "watchdog.", "nonfinite.", "plan.")
FREE_IN_1 = (*SERVICES, "compile_cache", "data.dir")
# "bert." is the base model's section; the fine-tuning's own keys overrule these two of it.
FREE = (*FREE_IN_1, *RECORDED, "bert.softmax", "bert.remat")


@contextlib.contextmanager
def claim(directory, config, *, group=None, free=()):
    """While the context lasts `directory` is this run's own, and its config.json is `config`.

    config: plain nested dictionary. group: the Hosts that share the directory: they agree first, on all of `config` but
    the dotted keys `free` and on the versions of what they run, and host 0 claims it for all. Raises UserError if
    they differ, if another run or something else holds the directory, or if it has checkpoints of another config or
    format; without a checkpoint there is nothing to protect, and a mistaken config may be fixed.
    """
    group, directory = group or hosts.Hosts(), epath.Path(directory)
    facts = {key: value for key, value in flatten(config).items() if key not in free}
    group.agree(facts | {"workdir": str(directory)} | versions.current())
    with _hold(directory, config) if group.index == 0 else contextlib.nullcontext():
        group.gather(None)
        yield


@contextlib.contextmanager
def _hold(directory, config):
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        path = directory / "config.json"
        _check_ours(directory, path)
        if path.exists() and _has_checkpoint(directory):
            check(directory, config)
        storage.write_text(path, json.dumps(config, indent=1, sort_keys=True) + "\n")
        storage.write_text(directory / FORMAT_FILE, json.dumps({"format": FORMAT}) + "\n")
        yield


def _check_ours(directory, path):
    """UserError for a folder of something else, a model or text for two."""
    if path.exists():
        if "model_type" in _read(path):
            raise command.UserError(f"{directory} holds a Hugging Face model: give another --workdir")
        return
    # Not iterdir, which fails where a bucket has nothing of that name yet.
    strange = sorted(found.name for found in directory.glob("*") if not found.name.startswith((".", path.name)))
    if strange:
        raise command.UserError(f"{directory} holds {strange[0]} and no run: give a --workdir that is new or empty")


def check(directory, config):
    """Raises UserError unless the run in `directory` is one of this format and has `config`, as `claim` takes it."""
    check_format(directory)
    _compare(read_config(directory), json.loads(json.dumps(config)), directory)


def check_format(directory):
    """Raises UserError for a run of another release, if it has a checkpoint: its batches and optimizer state differ.

    To be called before the run's data are read, which may be of an old format too.
    """
    directory = epath.Path(directory)
    number = read_json(directory / FORMAT_FILE).get("format", 1)
    if number == FORMAT or not _has_checkpoint(directory):
        return
    commits = [entry["commit"] for entry in versions.read(directory) if entry.get("commit")]
    release = f"that release (commit {commits[-1]})" if commits else "that release"
    start = "a new --workdir"
    if "task" not in read_config(directory):  # a fine-tuning starts from one model, not from a run of several seeds
        start += f" with --config.init_from={directory} and a corpus that this release has prepared"
    age = "an earlier" if number < FORMAT else "a later"
    raise command.UserError(
        f"{directory} was begun by {age} release, whose order of batches and optimizer state differ from this one's: "
        f"finish it with {release}, or start {start}"
    )


def _has_checkpoint(directory):
    return any(directory.glob("checkpoints/[0-9]*"))


@contextlib.contextmanager
def _lock(directory):
    if storage.is_bucket(directory):
        yield  # a bucket knows no locks: what is left is that no run saves over a newer checkpoint
        return
    with open(directory / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise command.UserError(f"another run is using {directory}: stop it or give another --workdir") from None
        yield


def write_tokenizer(directory, vocabulary):
    """The tokenizer of `vocabulary` is in `directory`/tokenizer."""
    folder = epath.Path(directory) / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as local:  # a bucket takes whole files only
        vocab.save(vocabulary, local)
        for path in pathlib.Path(local).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


def read_config(directory) -> dict:
    """The config of the run in `directory`; UserError where there is none, as in an exported model."""
    path = epath.Path(directory) / "config.json"
    why = "it has no config.json"
    if path.exists():
        config = _read(path)
        if "model_type" not in config:
            return config
        why = "it is a Hugging Face model"
    raise command.UserError(
        f"{directory} holds no run, {why}: give the --workdir of bert_tpu.pretrain or bert_tpu.finetune"
    )


def read_json(path) -> dict:
    """What a small file beside the config holds; {} where there is none. UserError for a damaged one."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise command.UserError(f"{path} is damaged: restore or delete it") from None


def _read(path):
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise command.UserError(f"{path} is damaged ({error}): restore it or give another --workdir") from None


def identity(config) -> str:
    """The same for every start of a run, and for no run of other parameters: 16 digits of a SHA-256."""
    return _digest(_decisive(config))


def has_identity(config, digits) -> bool:
    """Whether `digits` are the `identity` of the run with this config, by today's rule or that of format 1."""
    return digits in (identity(config), _digest(_decisive(config, FREE_IN_1)))


def recorded_keys(config) -> dict:
    """The keys of a config that change how a step is computed, not what is learnt, for versions.json."""
    return {key: value for key, value in flatten(config).items() if key in RECORDED}


def _digest(facts):
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _decisive(config, free=FREE):
    return {key: value for key, value in flatten(config).items() if not key.startswith(free)}


def _compare(old, new, directory):
    held, given = _decisive(old), _decisive(new)
    for key in sorted(held.keys() | given.keys()):
        if held.get(key) != given.get(key):
            raise command.UserError(
                f"{directory} belongs to another config: {key} is {held.get(key)!r} there and {given.get(key)!r} here; "
                "give another --workdir, or that value"
            )


def flatten(tree, prefix="") -> dict:
    """Nested dictionaries as one, its keys joined by dots."""
    found = {}
    for key, value in tree.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
