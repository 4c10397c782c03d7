"""Turns a fine-tuning config into a Job, which the trainer runs as it runs a pretraining.

bert-tpu finetune --config glue:rte --workdir W --config.init_from=MODEL --config.data.dir=GLUE

Several seeds train at once, in one program. At the end W/scores.json has the scores of each seed, and W/predictions its
predictions in the task's own format.
"""

import functools
import hashlib
from pathlib import Path
import sys
from typing import Any, NamedTuple

from etils import epath
import jax
import ml_collections
import numpy as np

from bert_tpu.core import command, config
from bert_tpu.data import task_batches
from bert_tpu.distributed import collectives, hosts
from bert_tpu.finetune import evaluation, heads
from bert_tpu.huggingface import architectures, hf, pretrained
from bert_tpu.model import flops, param_layout, sizes, transformer
from bert_tpu.tasks import reader, split_report, task
from bert_tpu.training import jobs, optim, train_step, trainer

SCALARS = (
    "seeds", "batch_size", "accumulate", "exchange", "num_steps", "epochs", "warmup", "max_length", "init_from",
    "compile_cache", "reader",
)  # fmt: skip
SECTIONS = trainer.SECTIONS | {
    "model": ("dropout", "attention_dropout", "dtype", "remat"),
    "eval": ("every_steps",),
}
MINIMA = trainer.MINIMA | {"batch_size": 1, "num_steps": 0, "epochs": 0, "warmup": 0}
ADVICE = (
    "a lower optim.learning_rate or a longer warmup in a new --workdir often fixes it, with optim.clip_norm as "
    "the config has it"
)
SEEDS_END = 2**31 - 1  # as in pretraining: JAX makes keys from int32
LOCAL = ("data.dir", "data.train", "data.validation", "data.test", "init_from", "compile_cache")


class Setup(NamedTuple):
    """The contents of a config, loaded."""

    cfg: ml_collections.ConfigDict  # with `num_steps` computed
    base: hf.Pretrained  # the model to start from
    model: heads.Model
    task: task.Task
    feed: task_batches.TaskBatches


def load(cfg: ml_collections.ConfigDict) -> Setup:
    """Reads and checks all that `cfg` names. Raises UserError, as `check`, if something does not fit together."""
    loaded, base = check(cfg), pretrained.load(cfg.init_from)
    cfg = cfg.copy_and_resolve_references()
    epoch_steps = -(-len(loaded.splits["train"].lengths) // cfg.batch_size)
    with cfg.unlocked():
        cfg.num_steps = cfg.num_steps or max(1, round(cfg.epochs * epoch_steps))
    model = heads.Model(transformer.Bert(**base.model | dict(cfg.model), parent=None), loaded.head, len(loaded.labels))
    sizes.check(model.bert, cfg.max_length)
    feed = task_batches.TaskBatches(
        loaded.splits["train"], seeds=cfg.seeds, batch_size=cfg.batch_size, num_steps=cfg.num_steps,
        seq_len=cfg.max_length, multiple=jax.device_count() * cfg.accumulate,
    )  # fmt: skip
    return Setup(cfg, base, model, loaded, feed)


def check(cfg: ml_collections.ConfigDict) -> task.Task:
    """Checks every key of `cfg` and reads its task. Uses no device, so that another process may have them all.

    Raises UserError if a key or value makes no sense, or if data are missing or wrong.
    """
    config.check_keys(cfg, "config", (*SCALARS, "data", "optim", *SECTIONS))
    for name, keys in SECTIONS.items():
        config.check_keys(cfg[name], f"config.{name}", keys)
    config.check_minima(cfg, MINIMA)
    config.check_choice(cfg, "exchange", collectives.FORMS)
    if not cfg.init_from:
        raise command.UserError("no model: give --config.init_from=DIR, a Hugging Face directory or a workdir")
    if not cfg.seeds or len(set(cfg.seeds)) < len(cfg.seeds) or not 0 <= min(cfg.seeds) <= max(cfg.seeds) < SEEDS_END:
        raise command.UserError(
            f"config.seeds is {cfg.seeds}: give different whole numbers below {SEEDS_END:,}, such as 0,1,2"
        )
    if not cfg.num_steps and not cfg.epochs:
        raise command.UserError("config.epochs is 0, and so is config.num_steps: give one of them")
    if cfg.warmup > 1:
        raise command.UserError(f"config.warmup is {cfg.warmup}: it is a share of the steps, from 0 to 1")
    origin = pretrained.load_origin(cfg.init_from)
    if cfg.max_length > (positions := origin.section["max_positions"]):
        raise command.UserError(
            f"config.max_length is {cfg.max_length}, but {cfg.init_from} has {positions} positions: give "
            f"--config.max_length={positions} or less"
        )
    loaded = reader.read(cfg, origin.vocabulary)
    if "train" not in loaded.splits:
        raise command.UserError(f"the data of {loaded.name} have no rows to train on: check --config.data")
    segments = 1 + max(int(rows.types.max(initial=0)) for rows in loaded.splits.values())
    if segments > origin.section["type_vocab_size"]:  # a type beyond the table would add 0 without an error
        raise command.UserError(
            f"rows of {loaded.name} have {segments} segments, but {cfg.init_from} has only "
            f"{origin.section['type_vocab_size']} (type_vocab_size): give single texts or another model"
        )
    return loaded


def make_job(cfg: ml_collections.ConfigDict, model: heads.Model, feed: task_batches.TaskBatches) -> jobs.Job:
    """Returns the Job that trains `model` on `feed` as `cfg` says."""
    steps = {"warmup_steps": warmup_steps(cfg), "warmup_share": 0.0, "num_steps": cfg.num_steps}
    optimizer = config.call(optim.make, cfg.optim, "optim", **steps, rate_width=0, hidden_size=0, batch_sizes=None)
    examples = 0 if model.head in heads.TOKEN_HEADS else feed.slots
    update_flops = len(cfg.seeds) * flops.update(model.bert, cfg.optim.name)
    work = flops.tune(model.bert, feed.rows(feed.seq_len), feed.seq_len, examples) + update_flops
    return jobs.Job(
        init=lambda key: param_layout.pack(heads.init(model, key)),
        loss=functools.partial(heads.loss, model),
        counts=functools.partial(heads.counts, model),
        rule=optimizer.rule,
        learning_rate=optimizer.rate,
        shapes={feed.seq_len: feed.shapes()},
        flops={feed.seq_len: work},
        update_flops=update_flops,
        seed=tuple(cfg.seeds),
        accumulate={cfg.max_length: cfg.accumulate},
        dtype=cfg.model.dtype,
        exchange=cfg.exchange,
    )


def warmup_steps(cfg: ml_collections.ConfigDict) -> int:
    """Number of warm-up steps. Needs `cfg.num_steps`, which `load` computes."""
    return round(cfg.warmup * cfg.num_steps)


def training(setup: Setup, directory: epath.Path, group: hosts.Hosts | None = None) -> trainer.Training:
    """Describes a run of `setup` to the trainer.

    directory: the workdir, for scores and predictions
    group: the Hosts that train together; None: this process alone
    """
    job, cfg = make_job(setup.cfg, setup.model, setup.feed), setup.cfg
    outputs = functools.partial(heads.outputs, setup.model)
    shapes = {cfg.max_length: setup.feed.evaluation_shapes()}
    name, head, labels = setup.task[:3]
    task_facts = {"name": name, "head": head, "labels": list(labels), "sha256": hashes(setup.task)}
    return trainer.Training(
        job=job,
        schedule=setup.feed,
        objectives=heads.OBJECTIVES,
        facts={"seeds": list(cfg.seeds), "task": task_facts, "bert": setup.base.model}
        | {"start": {"sha256": start_sha256(setup.base)}},
        vocabulary=setup.base.vocab,
        size=sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: heads.init(setup.model, jax.random.key(0))))),
        first_params=functools.partial(_first_params, setup, group or hosts.Hosts()),
        compile_programs=lambda mesh, _: train_step.compile_programs(
            job, mesh, train_step.jit_outputs(job, mesh, outputs), shapes
        ),
        open_data=lambda *_: trainer.Data(
            lambda step: setup.feed.batches(step, jax.process_count(), jax.process_index()),
            functools.partial(evaluation.evaluate, setup.cfg, setup.task, setup.feed, directory),
            note=split_report.text(
                setup.task, setup.base.vocab, max_length=cfg.max_length, positions=setup.base.model["max_positions"]
            ),
            examples={setup.feed.seq_len: setup.feed.mean_examples()},
        ),
        peak=optim.Peak(cfg.optim.learning_rate),
        warmup=optim.WarmUp("warmup", cfg.warmup, warmup_steps(cfg)),
        advice=ADVICE,
    )


def hashes(loaded: task.Task) -> dict[str, str]:
    """SHA-256 of the rows of each split of a task."""
    digests = {}
    for split, rows in loaded.splits.items():
        digest = hashlib.sha256()
        for array in rows[:4]:  # what trains; `lost` only informs
            digest.update(np.ascontiguousarray(array).data)
        digests[split] = digest.hexdigest()
    return digests


def start_sha256(base: hf.Pretrained) -> str:
    """Returns the hash of the encoder that a fine-tuning starts from. The heads of a pretraining do not count."""
    return pretrained.sha256({key: tree for key, tree in base.params.items() if key not in ("mlm", "nsp")})


def is_start(sha256: str, run_config: dict[str, Any]) -> bool:
    """Returns whether a run with config.json `run_config` started from the encoder with this `start_sha256`.

    A run of 0.2 has no hash there, and may have started from any.
    """
    return run_config.get("start", {"sha256": sha256})["sha256"] == sha256


def check_start(sha256: str, run_config: dict[str, Any], directory: Path | str) -> None:
    """Raises UserError unless the run in `directory` has this start. The other arguments are those of `is_start`."""
    if not is_start(sha256, run_config):
        raise command.UserError(
            f"{directory} was trained from other weights than {run_config['init_from']} has now: give another --workdir"
        )


def check_rows(loaded: task.Task, run_config: dict[str, Any], directory: Path | str) -> None:
    """Raises UserError unless a task has the rows that the run in `directory`, with config.json `run_config`, used."""
    if hashes(loaded) != run_config["task"]["sha256"]:
        raise command.UserError(f"{directory} was trained on other data than is there now: give another --workdir")


def first_params(setup: Setup, seed: int) -> dict[str, Any]:
    """The encoder of `init_from`, with a head drawn from the seed, and such a pooler if the encoder has none."""
    encoder = {k: v for k, v in hf.complete(setup.base, seed).items() if k not in ("mlm", "nsp")}
    return encoder | {"head": heads.init_head(setup.model, jax.random.key(seed))}


def drawn_note(setup: Setup) -> str:
    """Returns a line that says which part of the encoder the seeds draw, because the first model has none; or ""."""
    is_drawn = "pooler" in setup.base.absent and architectures.FINETUNED[setup.task.head].has_pooler
    return f"{setup.cfg.init_from} has no pooler: each seed draws its own" if is_drawn else ""


def _first_params(setup: Setup, group: hosts.Hosts, template: jobs.Params) -> jobs.Params:
    """Parameters of all seeds at step 0, stacked, with the shardings of `template`."""
    if group.index == 0 and (note := drawn_note(setup)):
        print(note, file=sys.stderr)
    params = [param_layout.pack(first_params(setup, seed)) for seed in setup.cfg.seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(jax.device_get(leaves)), *params)
    return pretrained.place_params(stacked, template, group)


def run(
    cfg: ml_collections.ConfigDict,
    directory: epath.Path,
    group: hosts.Hosts | None = None,
    began_s: float | None = None,
) -> int:
    """Fine-tunes as `cfg` says, in the workdir `directory`. Arguments and exit code are those of trainer.run."""
    setup = load(cfg)
    return trainer.run(
        setup.cfg, training(setup, directory, group), directory, group, local_keys=LOCAL, began_s=began_s
    )
