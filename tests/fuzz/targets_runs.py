"""Config keys, and files of a run."""

import contextlib
import functools
import json
import pathlib
import tempfile

from hypothesis import strategies as st
import ml_collections

from bert_tpu.core import config, json_files, jsonl
from bert_tpu.monitoring import health, hours, scores_file, versions
from bert_tpu.pretrain import objectives, pretraining
from bert_tpu.training import workdir
from fuzz import damaged
from fuzz.target import Target
import tools

ROOT = pathlib.Path(tools.__file__).parent.parent
CONFIGS = ("bert.py:medium", "bert.py:micro", "fast.py", "mlm.py", "demo.py")
TUNINGS = ("glue.py:rte", "squad.py:1.1", "squad.py:2.0", "ner.py", "pairs.py", "pairs.py:regress")
VALUES = (
    "", "0", "1", "-1", "2", "3", "7", "128", "512", "1e9", "1e-9", "1e400", "nan", "inf", "-inf", "0.5", "True",
    "true",
    "False", "None", "null", "128,512", "(16,32)", "()", "16,", "[1]", "1_000", " 5 ", "0x10", "1e3",
    "99999999999999999999",
    "é", "🙂", "a b", "gelu", "relu", "float32", "bfloat16", "float16", "mixed", "../x", "~", "/",
    "((((", "x" * 5000, "\x00", "1\n2", "9" * 5000, "(" * 500, "-0", "1.0", "2.5", "1,2,3", "gs://bucket/x", "hf://x",
)  # fmt: skip


@functools.cache
def _keys(name):
    return list(workdir.flatten(config.load(str(ROOT / "configs" / name)).to_dict()))


@st.composite
def _changes(draw, names):
    """Draws a config and up to three words --config.KEY=VALUE, rarely with a misspelt key."""
    name = draw(st.sampled_from(names))
    words = []
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(_keys(name)))
        if draw(st.integers(0, 19)) == 0:
            key = draw(st.sampled_from((key[:-1], key + "s", key.upper(), "", ".", "model", "data.", "__class__")))
        value = st.sampled_from(_plausible(name, key)) if draw(st.integers(0, 2)) else st.sampled_from(VALUES)
        words.append(f"--config.{key}={draw(value)}")
    return name, words


def _plausible(name, key):
    """Values of the type that a key has, some of them out of its range."""
    match workdir.flatten(config.load(str(ROOT / "configs" / name)).to_dict()).get(key):
        case bool():
            return "true", "false", "True"
        case int():
            return "0", "1", "2", "3", "4", "16", "64", "128", "512", "1000", "-1", "30522", str(10**9), str(2**63)
        case float():
            return "0", "0.0", "0.1", "0.5", "1", "1.0", "1e-12", "1e-4", "3", "-0.1", "1e9"
        case tuple():
            return "128", "128,512", "16,32", "512,128", "0", "32,32", "20,76", "1,2,3", "8,16,32"
    return (
        "",
        "x",
        "gelu",
        "gelu_new",
        "bfloat16",
        "float32",
        "linear",
        "mixed",
        "staged",
        "nowhere/x",
        "mlm",
    )


def _load(drawn):
    """The changed config. Its values are those of the words, read as the type that the key has."""
    name, words = drawn
    cfg = config.load_changed(str(ROOT / "configs" / name), words)
    values = workdir.flatten(cfg.to_dict())
    last = dict(word.removeprefix("--config.").split("=", 1) for word in words)
    for key, text in last.items():
        value = values[key]
        written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        same = {text.strip().lower(), text.strip("()[] ,").replace(" ", "")}
        for read in (float, int, functools.partial(int, base=0)):  # 0x10 is 16
            with contextlib.suppress(ValueError):
                same.add(str(read(text)))
        assert written in {*same, text} or written.lower() in same or text.startswith("["), (key, text, value)
    return cfg


def _check_config(drawn):
    """A config that is accepted makes a Job, and is the same after it was written to config.json."""
    cfg = _load(drawn)
    pretraining.make_job(cfg)
    objectives.find(cfg)
    again = ml_collections.ConfigDict(json.loads(json.dumps(cfg.to_dict())))
    assert workdir.identity(cfg.to_dict()) == workdir.identity(again.to_dict())


def _check_tuning(drawn):
    """A fine-tuning's config is read, or refused by one sentence."""
    _load(drawn)


RECORDS = {
    "hours.json": ({"starts": 1, "lost_steps": 0, "seconds": {"step": 2.5}, "unsaved": {"step": 3,
    "seconds": {"step": 1.0}}}, hours.read),
    "scores.json": ({"step": 3, "seeds": {"0": {"validation": {"f1": 0.5}}},
    "summary": {"validation": {"f1": {"mean": 0.5, "std": 0.0, "best": 0.5}}}}, scores_file.read),
    "health.json": ({"unigram_entropy": 5.5, "unknown_share": 0.0, "warmup_steps": 3,
    "commoner": {"128": 0.5}}, health.read),
    "versions.json": ([{"step": 0, "bert_tpu": "0.2", "commit": None, "code": "c0de", "jax": "0.10",
    "python": "3.11"}], versions.read),
    "config.json": ({"model": {"hidden_size": 32}, "seed": 0}, workdir.read_config),
    "metrics.jsonl": ({"step": 1, "kind": "train", "loss": 2.5}, lambda folder: jsonl.read(folder / "metrics.jsonl")),
}  # fmt: skip


def _check_record(drawn):
    """A damaged file of a run is refused, or has values of the types that its readers rely on."""
    name, raw = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(raw)
        content = RECORDS[name][1](path.parent)
        if name == "versions.json":
            for entry in content:
                versions.describe(entry)
        if name == "hours.json":
            assert not json_files.misfit(content, hours.SHAPE)


def _records():
    return st.sampled_from(list(RECORDS)).flatmap(
        lambda name: st.tuples(st.just(name), damaged.edits(st.just(json.dumps(RECORDS[name][0]).encode())))
    )


def targets():
    """The targets of this file."""
    return [
        Target("files of a run", _records(), _check_record),
        Target("keys of pretraining", _changes(CONFIGS), _check_config, 1.5),
        Target("keys of fine-tuning", _changes(TUNINGS), _check_tuning, 0.5),
    ]
