"""One run's directory: it belongs to one config and to one process group at a time."""

import contextlib
import fcntl
import hashlib
import json
import pathlib
import tempfile

from etils import epath

from bert_tpu import command, hosts, places, versions, vocab

# What may change between two starts of a run: none of it alters a parameter. The corpus is known by its hash.
FREE = ("log.", "eval.", "checkpoint.", "profile.", "watchdog.", "nonfinite.", "plan.", "compile_cache", "data.dir")


@contextlib.contextmanager
def claim(directory, config, *, group=None, free=()):
    """While the context lasts `directory` is this run's own, and its config.json is `config`.

    config: plain nested dictionary. group: the Hosts that share the directory: they agree first, on all of `config` but
    the dotted keys `free` and on the versions of what they run, and host 0 claims it for all. Raises UserError if
    they differ, if another run or something else holds the directory, or if it has checkpoints of another config;
    without a checkpoint there is nothing to protect, and a mistaken config may be mended.
    """
    group, directory = group or hosts.Hosts(), epath.Path(directory)
    facts = {key: value for key, value in flat(config).items() if key not in free}
    group.agree(facts | {"workdir": str(directory)} | versions.here())
    with _hold(directory, config) if group.index == 0 else contextlib.nullcontext():
        group.gather(None)
        yield


@contextlib.contextmanager
def _hold(directory, config):
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        path = directory / "config.json"
        config = json.loads(json.dumps(config))
        _check_ours(directory, path)
        if path.exists() and any(directory.glob("checkpoints/[0-9]*")):
            _compare(_read(path), config, directory)
        places.write_atomically(path, json.dumps(config, indent=1, sort_keys=True) + "\n")
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


@contextlib.contextmanager
def _lock(directory):
    if places.is_bucket(directory):
        yield  # a bucket knows no locks: what is left is that no run saves over a newer checkpoint
        return
    with open(directory / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise command.UserError(f"another run is using {directory}: stop it or give another --workdir") from None
        yield


def put_tokenizer(directory, vocabulary):
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
    return hashlib.sha256(json.dumps(_decisive(config), sort_keys=True).encode()).hexdigest()[:16]


def _decisive(config):
    return {key: value for key, value in flat(config).items() if not key.startswith(FREE)}


def _compare(old, new, directory):
    held, given = _decisive(old), _decisive(new)
    for key in sorted(held.keys() | given.keys()):
        if held.get(key) != given.get(key):
            raise command.UserError(
                f"{directory} belongs to another config: {key} is {held.get(key)!r} there and {given.get(key)!r} here; "
                "give another --workdir, or that value"
            )


def flat(tree, prefix="") -> dict:
    """Nested dictionaries as one, its keys joined by dots."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
