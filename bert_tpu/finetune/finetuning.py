"""Fine-tuning: a config becomes the same Job that pretraining makes, and the Job the same run.

python -m bert_tpu.finetune --config configs/glue.py:rte --workdir W --config.init_from=MODEL --config.data.dir=GLUE

Several seeds train at once, in one program. At the end W/scores.json has each seed's scores, and W/predictions its
answers in the task's own form.
"""

import functools
import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_tpu.core import command, config
from bert_tpu.data import task_batches
from bert_tpu.distributed import hosts
from bert_tpu.finetune import evaluation, heads
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import flops, param_layout, sizes, transformer
from bert_tpu.tasks import task
from bert_tpu.training import jobs, optim, train_step, trainer

SCALARS = (
    "seeds", "batch_size", "accumulate", "num_steps", "epochs", "warmup", "max_length", "init_from", "compile_cache",
    "reader",
)  # fmt: skip
SECTIONS = trainer.SECTIONS | {
    "model": ("dropout", "attention_dropout", "softmax", "dtype", "remat"),
    "eval": ("every_steps",),
}
MINIMA = trainer.MINIMA | {"batch_size": 1, "num_steps": 0, "epochs": 0, "warmup": 0}
MEND = (
    "a lower optim.learning_rate or a longer warmup in a new --workdir often mends it, with optim.clip_norm as "
    "the config has it"
)
SEEDS_END = 2**31 - 1  # as of pretraining: JAX's keys are made of int32
LOCAL = ("data.dir", "data.train", "data.validation", "data.test", "init_from", "compile_cache")


class Opened(NamedTuple):
    """What a config names: the model to start from, the task, and the config with its steps counted."""

    cfg: Any
    start: hf.Pretrained
    tuned: heads.Model
    task: task.Task
    feed: task_batches.TaskBatches


def open(cfg) -> Opened:
    """All that `cfg` names, read and checked. UserError for what does not fit together."""
    read, start = look(cfg), pretrained.load(cfg.init_from)
    cfg = cfg.copy_and_resolve_references()
    steps = -(-len(read.splits["train"].lengths) // cfg.batch_size)
    with cfg.unlocked():
        cfg.num_steps = cfg.num_steps or max(1, round(cfg.epochs * steps))
    tuned = heads.Model(transformer.Bert(**start.model | dict(cfg.model), parent=None), read.head, len(read.labels))
    sizes.check(tuned.bert, cfg.max_length)
    rows = task_batches.TaskBatches(
        read.splits["train"], seeds=cfg.seeds, batch_size=cfg.batch_size, num_steps=cfg.num_steps,
        seq_len=cfg.max_length, multiple=jax.device_count() * cfg.accumulate,
    )  # fmt: skip
    return Opened(cfg, start, tuned, read, rows)


def look(cfg) -> task.Task:
    """The task of `cfg`, of which every key is checked; no device is asked for, so that another process may have all.

    UserError for a key or value that makes no sense and for data that are missing or wrong.
    """
    config.check_keys(cfg, "config", (*SCALARS, "data", "optim", *SECTIONS))
    for name, keys in SECTIONS.items():
        config.check_keys(cfg[name], f"config.{name}", keys)
    config.check_minima(cfg, MINIMA)
    if not cfg.init_from:
        raise command.UserError("no model: give --config.init_from=DIR, a Hugging Face directory or a workdir")
    if not cfg.seeds or len(set(cfg.seeds)) < len(cfg.seeds) or not 0 <= min(cfg.seeds) <= max(cfg.seeds) < SEEDS_END:
        raise command.UserError(
            f"config.seeds is {cfg.seeds}: give different whole numbers below {SEEDS_END:,}, such as 0,1,2"
        )
    if cfg.warmup > 1:
        raise command.UserError(f"config.warmup is {cfg.warmup}: it is a share of the steps, from 0 to 1")
    origin = pretrained.look(cfg.init_from)
    if cfg.max_length > (positions := origin.section["max_positions"]):
        raise command.UserError(
            f"config.max_length is {cfg.max_length} and {cfg.init_from} has {positions} positions: give "
            f"--config.max_length={positions} or less"
        )
    read = read_task(cfg, origin.vocabulary)
    if "train" not in read.splits:
        raise command.UserError(f"the data of {read.name} have no rows to train on: check --config.data")
    segments = 1 + max(int(rows.types.max(initial=0)) for rows in read.splits.values())
    if segments > origin.section["type_vocab_size"]:  # a type past the table would be added as 0, silently
        raise command.UserError(
            f"rows of {read.name} have {segments} segments and {cfg.init_from} knows "
            f"{origin.section['type_vocab_size']} (type_vocab_size): give single texts or another model"
        )
    return read


def read_task(cfg, vocabulary) -> task.Task:
    """The task whose files `cfg.data` names, in pieces of `vocabulary`."""
    given = {"max_length": cfg.max_length, "vocabulary": vocabulary}
    return config.call(_reader(cfg.reader), cfg.data, "data", **given)


def _reader(name):
    """The function that reads a task's files, by the name that a config has for it."""
    from bert_tpu.tasks import glue, ner, squad, table

    readers = {"glue": glue.load, "ner": ner.load, "squad": squad.load, "table": table.load}
    if name not in readers:
        raise command.UserError(f"config.reader {name!r} is none of {', '.join(readers)}")
    return readers[name]


def job(cfg) -> jobs.Job:
    """The Job of a config; what it names is read."""
    return make_job(open(cfg))


def make_job(opened) -> jobs.Job:
    """The Job of what is open; of that it asks for cfg, tuned and feed."""
    cfg, tuned, rows = opened.cfg, opened.tuned, opened.feed
    steps = {"warmup_steps": warmup_steps(cfg), "num_steps": cfg.num_steps}
    rule, rate = config.call(optim.make, cfg.optim, "optim", **steps)
    exact = tuned._replace(bert=tuned.bert.clone(softmax="exact"))
    examples = 0 if tuned.head in heads.OF_TOKENS else rows.slots
    return jobs.Job(
        init=lambda key: param_layout.pack(heads.init(tuned, key)),
        loss=functools.partial(heads.loss, tuned),
        counts=functools.partial(heads.counts, tuned),
        tx=rule,
        learning_rate=rate,
        shapes={rows.seq_len: rows.shapes()},
        flops={rows.seq_len: flops.tune(tuned.bert, rows.rows(rows.seq_len), rows.seq_len, examples)},
        seed=tuple(cfg.seeds),
        accumulate=cfg.accumulate,
        dtype=cfg.model.dtype,
        exact_loss=None if tuned.bert.softmax == "exact" else functools.partial(heads.loss, exact),
    )


def warmup_steps(cfg) -> int:
    """The steps of warm-up, once `cfg.num_steps` is counted."""
    return round(cfg.warmup * cfg.num_steps)


def training(opened, directory, group=None) -> trainer.Training:
    """What a run of `opened` is. Its scores and predictions come to be in `directory`.

    group: the Hosts that train it; None: this process alone.
    """
    this, cfg = make_job(opened), opened.cfg
    outputs = functools.partial(heads.outputs, opened.tuned)
    shapes = {cfg.max_length: opened.feed.evaluation_shapes()}
    name, head, labels = opened.task[:3]
    facts = {"name": name, "head": head, "labels": list(labels), "sha256": hashes(opened.task)}
    return trainer.Training(
        job=this,
        schedule=opened.feed,
        objectives=heads.OBJECTIVES,
        facts={"seeds": list(cfg.seeds), "task": facts, "bert": opened.start.model},
        vocabulary=opened.start.vocab,
        size=sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: heads.init(opened.tuned, jax.random.key(0))))),
        first_params=functools.partial(_first_params, opened, group or hosts.Hosts()),
        compile_programs=lambda mesh: train_step.compile_programs(
            this, mesh, train_step.jit_outputs(this, mesh, outputs), shapes
        ),
        open_data=lambda *_: trainer.Data(
            lambda step: opened.feed.batches(step, jax.process_count(), jax.process_index()),
            functools.partial(evaluation.evaluate, opened, directory),
        ),
        warmup=optim.WarmUp("warmup", cfg.warmup, warmup_steps(cfg)),
        advice=MEND,
    )


def hashes(read) -> dict[str, str]:
    """The SHA-256 of the rows of each split of a task."""
    found = {}
    for split, rows in read.splits.items():
        digest = hashlib.sha256()
        for array in rows:
            digest.update(np.ascontiguousarray(array))
        found[split] = digest.hexdigest()
    return found


def check_rows(read, config, directory):
    """Raises UserError where a task has other rows than the run in `directory`, whose config.json is `config`, had."""
    if hashes(read) != config["task"]["sha256"]:
        raise command.UserError(f"{directory} was made of other data than are there now: give another --workdir")


def first_params(opened, seed) -> dict[str, Any]:
    """The encoder of `init_from` and, drawn by the seed, a head, and a pooler where there was none."""
    encoder = {k: v for k, v in hf.complete(opened.start, seed).items() if k not in ("mlm", "nsp")}
    return encoder | {"head": heads.init_head(opened.tuned, jax.random.key(seed))}


def _first_params(opened, group, like):
    """The parameters of all seeds at step 0, stacked, in the places of `like`."""
    each = [param_layout.pack(first_params(opened, seed)) for seed in opened.cfg.seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(jax.device_get(leaves)), *each)
    return pretrained.place(stacked, like, group)


def run(cfg, directory, group=None, age_s=0.0) -> int:
    """Fine-tunes as `cfg` says in `directory`, as running.run says."""
    opened = open(cfg)
    return trainer.run(opened.cfg, training(opened, directory, group), directory, group, free=LOCAL, age_s=age_s)
