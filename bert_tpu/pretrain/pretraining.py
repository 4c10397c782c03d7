"""Pretraining: turns a config into a Job, and the Job into a run.

bert-tpu pretrain --config bert:medium --workdir W --config.data.dir=CORPUS [--config.x.y=z]
"""

import argparse
from collections.abc import Sequence
import concurrent.futures
import functools
import sys

from etils import epath
import jax
from jax.sharding import Mesh
import ml_collections

from bert_tpu.core import batch_ramp, command, config
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec, packing, row_limits
from bert_tpu.distributed import collectives, hosts
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import flops, param_layout, sizes, transformer
from bert_tpu.monitoring import health
from bert_tpu.pretrain import distillation, evaluation, mlm_nsp, objectives, samples
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, optim, train_step, trainer, workdir

SCALARS = ("seed", "batch_size", "accumulate", "exchange", "num_steps", "init_from", "compile_cache")
OPTIONAL = ("objective", "accumulate_long", "ramp", distillation.SECTION)
# Keys of the sections that are used only after the workdir is claimed. `make_job` uses `model`, `data`, `optim` before.
SECTIONS = trainer.SECTIONS | {
    "eval": ("every_steps", "num_batches"),
    "plan": ("price", "pue", "kgco2e_per_kwh"),
}
LOCAL = ("data.dir", "compile_cache", "distill.teacher")  # may differ between the hosts of a run
ADVICE = (
    "--replay {step} shows where it comes from; a lower optim.learning_rate in a new --workdir, with a checkpoint of "
    "this one as init_from, often fixes it"
)
MINIMA = trainer.MINIMA | {
    "model.vocab_size": 1, "model.hidden_size": 1, "model.num_layers": 1, "model.num_heads": 1,
    "model.intermediate_size": 1, "model.type_vocab_size": 2, "optim.warmup_steps": 0, "eval.num_batches": 0,
    "model.max_positions": 1, "model.layer_norm_eps": 0, "num_steps": 1, "batch_size": 1,
    "plan.pue": 1, "plan.kgco2e_per_kwh": 0,
}  # fmt: skip


def make_job(cfg: ml_collections.ConfigDict, teacher: distillation.Teacher | None = None) -> jobs.Job:
    """The Job of a config. Checks every key. Reads no data, so that a run can be planned before its corpus exists.

    teacher: that of the config, so that its weights are read once; None: it is made from the config
    """
    config.check_keys(cfg, "config", (*SCALARS, "model", "data", "optim", *SECTIONS), optional=OPTIONAL)
    for name, keys in SECTIONS.items():
        config.check_keys(cfg[name], f"config.{name}", keys)
    bert = config.call(transformer.Bert, cfg.model, "model", parent=None, name=None)
    optimizer = make_optimizer(cfg)
    spec = make_batch_spec(cfg)
    optional = {"accumulate_long": 0} if "accumulate_long" in cfg else {}
    config.check_minima(cfg, MINIMA | optional | {f"plan.price.{chip}": 0 for chip in cfg.plan.price})
    row_limits.check_positions(spec, bert.max_positions)
    config.check_choice(cfg, "exchange", collectives.FORMS)
    sizes.check(bert, spec.seq_lens[-1])
    lens = spec.used_lens()
    target = objectives.find(cfg)
    update_flops = flops.update(bert, cfg.optim.name)
    job = jobs.Job(
        init=lambda key: param_layout.pack(transformer.init(bert, key)),
        loss=functools.partial(target.loss, bert),
        counts=target.counts,
        rule=optimizer.rule,
        learning_rate=optimizer.rate,
        shapes={n: spec.shapes(n) for n in lens},
        flops={n: flops.train(bert, spec.rows(n), n, spec.predictions(n)) + update_flops for n in lens},
        update_flops=update_flops,
        seed=cfg.seed,
        accumulate=parts_of_lengths(cfg, spec),
        dtype=cfg.model.dtype,
        exchange=cfg.exchange,
    )
    if teacher := teacher or distillation.find(cfg):
        return teacher.teach(job, bert, target, spec)
    return job


def make_optimizer(cfg: ml_collections.ConfigDict) -> optim.Optimizer:
    """Returns the optimizer of a config. A config may lack `optim.warmup_share` and `optim.rate_width`."""
    of_run = {"hidden_size": cfg.model.hidden_size, "batch_sizes": make_batch_spec(cfg).batch_sizes}
    return config.call(optim.make, cfg.optim, "optim", num_steps=cfg.num_steps, **of_run)


def parts_of_lengths(cfg: ml_collections.ConfigDict, spec: batch_spec.BatchSpec) -> dict[int, int]:
    """Returns sequence length -> parts that a batch is computed in. A config may lack `accumulate_long`."""
    long_parts = cfg.get("accumulate_long", 0) or cfg.accumulate
    *short, long = spec.seq_lens
    parts = dict.fromkeys(short, cfg.accumulate) | {long: long_parts}
    return {n: parts[n] for n in spec.used_lens()}


def make_batch_spec(cfg: ml_collections.ConfigDict) -> batch_spec.BatchSpec:
    """Returns the checked spec of a config's batches."""
    of_run = {"seed": cfg.seed, "batch_size": cfg.batch_size, "num_steps": cfg.num_steps}
    ramp = {"ramp": batch_ramp.read(cfg), "stage": None}
    return batch_spec.check(config.call(batch_spec.BatchSpec, cfg.data, "data", **of_run, **ramp))


def run(
    cfg: ml_collections.ConfigDict, directory: epath.Path, group: hosts.Hosts | None = None,
    began_s: float | None = None,
) -> int:  # fmt: skip
    """Trains `cfg` in the workdir `directory`; returns the exit code. Arguments are those of trainer.run."""
    workdir.check_format(directory)
    return trainer.run(cfg, training(cfg, group), directory, group, local_keys=LOCAL, began_s=began_s)


def training(cfg: ml_collections.ConfigDict, group: hosts.Hosts | None = None) -> trainer.Training:
    """The training that `cfg` describes. Opens its corpus. group: the hosts that train; None: this process alone."""
    teacher = distillation.find(cfg)
    job, spec, lock, optimizer = make_job(cfg, teacher), make_batch_spec(cfg), open_corpus(cfg), make_optimizer(cfg)
    store.check_sizes(lock)  # before the programs compile, which takes minutes
    facts = {"seed": cfg.seed, "corpus": {"sha256": lock.sha256, "tokenizer_sha256": lock.tokenizer_sha256}}
    vocabulary = vocab.load(lock.directory)
    if teacher:
        teacher.check_vocabulary(vocabulary, lock.directory)
        facts[distillation.SECTION] = cfg.distill.to_dict() | teacher.facts
    if group is None or group.index == 0:
        for warning in warnings(cfg, spec, lock):
            print(f"warning: {warning}", file=sys.stderr)
    return trainer.Training(
        job=job,
        schedule=spec,
        objectives=objectives.find(cfg).losses,
        facts=facts,
        vocabulary=vocabulary,
        size=sum(x.size for x in jax.tree.leaves(param_layout.shapes(cfg.model))),
        first_params=functools.partial(_init_from, cfg, lock, group or hosts.Hosts()) if cfg.init_from else None,
        compile_programs=functools.partial(_compile, cfg, job, spec),  # of the devices and the first step
        open_data=functools.partial(open_data, cfg, lock, spec),
        peak=optimizer.peak,
        warmup=optimizer.warmup,
        advice=ADVICE,
    )


def warnings(cfg: ml_collections.ConfigDict, spec: batch_spec.BatchSpec, lock: store.Lock) -> list[str]:
    """Returns warnings about keys that are probably mistakes, before any text is read."""
    pairs = [lock.pair_warning, row_limits.pairs_warning(spec)] if objectives.find(cfg) is mlm_nsp.OBJECTIVE else []
    return list(filter(None, [*pairs, row_limits.slots_warning(spec), distillation.idle_warning(cfg)]))


def open_corpus(cfg: ml_collections.ConfigDict) -> store.Lock:
    """Opens the corpus in `cfg.data.dir`. Raises UserError if its vocabulary is not the model's."""
    if not cfg.data.dir:
        raise command.UserError("no corpus: give --config.data.dir=DIR, a folder written by bert-tpu prepare")
    lock = store.read(cfg.data.dir)
    if lock.vocab_size != cfg.model.vocab_size:
        if cfg.init_from:  # which is compared first: the config's number may be neither's
            section = cfg.model.to_dict() | {"vocab_size": lock.vocab_size}
            pretrained.check_same(cfg.init_from, section, vocab.load(lock.directory), cfg.data.dir)
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has a vocabulary of {lock.vocab_size:,} pieces and the config one of "
            f"{cfg.model.vocab_size:,}: give --config.model.vocab_size={lock.vocab_size}"
        )
    if lock.content["train"]["texts"] < 2:
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has a single training text, and a random B comes from another: prepare it "
            "again with more documents"
        )
    if cfg.eval.num_batches and lock.content["heldout"]["texts"] < 2:
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has fewer than two held-out texts to evaluate on: give "
            "--config.eval.num_batches=0, or prepare it again with a larger --heldout"
        )
    return lock


def _compile(
    cfg: ml_collections.ConfigDict, job: jobs.Job, spec: batch_spec.BatchSpec, mesh: Mesh, first_step: int
) -> train_step.Programs:
    """The programs of a run from `first_step` on. That of the samples is compiled at the same time as the others."""
    batch_sizes = spec.sizes(first_step)
    if not cfg.eval.num_batches:
        return train_step.compile_programs(job, mesh, sizes=batch_sizes)
    bert = config.call(transformer.Bert, cfg.model, "model", parent=None, name=None)
    shapes = samples.shapes(spec, mesh.size, jax.process_count())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = pool.submit(samples.compile_program, job, bert, shapes, mesh)
        return train_step.compile_programs(job, mesh, sizes=batch_sizes)._replace(samples=compiling.result())


def _init_from(cfg: ml_collections.ConfigDict, lock: store.Lock, group: hosts.Hosts, like: jobs.Params) -> jobs.Params:
    """The parameters of `cfg.init_from`, sharded as `like`. Raises UserError if they do not fit cfg.model."""
    pretrained.check_same(cfg.init_from, cfg.model, vocab.load(lock.directory), lock.directory)
    start = pretrained.load(cfg.init_from)
    if start.absent and group.index == 0:
        absent = ", no ".join(start.absent)
        print(f"{cfg.init_from} has no {absent}: drawn from seed {cfg.seed}", file=sys.stderr)
    return pretrained.place_params(param_layout.pack(hf.complete(start, cfg.seed)), like, group)


def open_data(
    cfg: ml_collections.ConfigDict, lock: store.Lock, spec: batch_spec.BatchSpec, devices: int,
    group: hosts.Hosts | None = None,
) -> trainer.Data:  # fmt: skip
    """The batches of a run, and its evaluation.

    cfg, lock, spec: of the run, its corpus and its batches
    devices: number of JAX devices, of all hosts
    group: the hosts, which all call this; None: this process alone
    """
    from bert_tpu.data import corpus_batches, host_share

    host = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    share = host_share.load(lock, "train", **spec.row_counts(), **host)
    heldout, notes = evaluation.load(cfg, lock, spec, host)
    # Printed figures are of the data of all hosts.
    by_host = (group or hosts.Hosts()).gather(
        [corpus_batches.examples_per_row(share, spec), corpus_batches.label_counts(heldout)]
    )
    examples_per_row = sum(examples for examples, _ in by_host) / len(by_host)
    commoner = health.commoner_shares([counts for _, counts in by_host])
    facts = health.Facts(
        unigram_entropy=lock.unigram_entropy,
        unknown_share=lock.content["train"]["unknown_share"],
        warmup_steps=make_optimizer(cfg).warmup.steps,
        commoner=commoner,
        first_nsp_step=spec.first_nsp_step,
        metrics=objectives.find(cfg).metrics,
    )
    chosen = None
    if heldout:
        [rows, *_] = samples.shapes(spec, devices, host["process_count"])["input_ids"]
        chosen = samples.choose_rows(heldout[0][1], share.pieces, share.special, rows // host["process_count"])
    parts = parts_of_lengths(cfg, spec).get(spec.seq_lens[-1], 1)
    notes.append(row_limits.notes(share.text, spec, examples_per_row, devices * parts))
    return trainer.Data(
        batches_from=functools.partial(corpus_batches.train, share, spec),
        evaluate=evaluation.make(heldout, chosen, share.pieces, facts, cfg.num_steps),
        note="\n".join(filter(None, notes)),
        examples=packing.examples_of_steps(examples_per_row, spec),
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses as config.parse does. Sizes that are None in the config are set to those of the model in `init_from`."""
    args = config.parse(parser, config.PRETRAINING, argv)
    args.config = pretrained.with_sizes(args.config)
    return args
