"""Warns of keys that are probably mistakes and of a short held-out text. Shown before the runs and under the tables."""

from collections.abc import Iterator, Sequence
import json
import re

from bert_tpu.corpus import store
from bert_tpu.pretrain import pretraining, several_seeds
from bert_tpu.recipes import experiment, runs
from bert_tpu.training import optim

FLAG = re.compile(r"--config\.([\w.]+)=([^\s;:]*[^\s;:,.])")
CONFIG = re.compile(r"--config[ =]([\w.:/-]*\w)")
BARE = re.compile(r"-?[\d.]+(e-?\d+)?|true|false")  # as TOML has it without quotes


def of_runs(plan: experiment.Experiment, all_runs: Sequence[runs.Run]) -> list[str]:
    """Returns the warnings about a short held-out text, and those about unlikely keys, which name their runs."""
    of_text = several_seeds.heldout_warnings(plan.reference())
    lock = pretraining.open_corpus(plan.reference())  # that of all runs
    names: dict[str, list[str]] = {}
    for run in all_runs:
        for sentence in _of_run(run, lock):
            names.setdefault(sentence, []).append(run.name)
    of_keys = [f"{'; '.join(dict.fromkeys(those))}: {sentence}" for sentence, those in names.items()]
    return [as_keys(sentence) for sentence in (*of_text, *of_keys)]


def as_keys(sentence: str) -> str:
    """Returns a sentence in which flags of other commands, --config.KEY=VALUE, are lines of the experiment's file."""

    def line(flag: re.Match[str]) -> str:
        key, value = flag.groups()
        return f"{key} = [{', '.join(map(_toml, value.split(',')))}]" if "," in value else f"{key} = {_toml(value)}"

    return CONFIG.sub(r'config = "\1"', FLAG.sub(line, sentence))


def _toml(value: str) -> str:
    return value if BARE.fullmatch(value) else json.dumps(value)


def _of_run(run: runs.Run, lock: store.Lock) -> Iterator[str]:
    cfg, optimizer = run.cfg, pretraining.make_optimizer(run.cfg)
    yield from pretraining.warnings(cfg, pretraining.make_batch_spec(cfg), lock)
    if sentence := optim.unreached_peak(optimizer.rate, optimizer.peak, optimizer.warmup, cfg.num_steps):
        yield sentence
