"""Sentences about keys and text that can hardly be meant so: before the runs, and again under their tables."""

from collections.abc import Iterator, Sequence
import re

from bert_tpu.pretrain import pretraining, several_seeds
from bert_tpu.recipes import experiment, runs
from bert_tpu.training import optim

FLAG = re.compile(r"--config\.([\w.]+)=([^\s;:]*[^\s;:,.])")


def of_runs(plan: experiment.Experiment, every: Sequence[runs.Run]) -> list[str]:
    """Returns a sentence for each doubt about the held-out text, and about the keys of some runs, which it names."""
    of_text = several_seeds.heldout_warnings(plan.reference())
    names: dict[str, list[str]] = {}
    for run in every:
        for sentence in _of_run(run):
            names.setdefault(sentence, []).append(run.name)
    of_keys = [f"{'; '.join(dict.fromkeys(those))}: {sentence}" for sentence, those in names.items()]
    return [as_keys(sentence) for sentence in (*of_text, *of_keys)]


def as_keys(sentence: str) -> str:
    """Returns a sentence in which flags of other commands, --config.KEY=VALUE, are lines of the experiment's file."""

    def line(flag: re.Match[str]) -> str:
        key, value = flag.groups()
        return f"{key} = [{value}]" if "," in value else f"{key} = {value}"

    return FLAG.sub(line, sentence)


def _of_run(run: runs.Run) -> Iterator[str]:
    cfg = run.cfg
    lock, spec, optimizer = (
        pretraining.open_corpus(cfg),
        pretraining.make_batch_spec(cfg),
        pretraining.make_optimizer(cfg),
    )
    yield from pretraining.warnings(cfg, spec, lock)
    if sentence := optim.unreached_peak(optimizer.rate, optimizer.peak, optimizer.warmup, cfg.num_steps):
        yield sentence
