"""MLM + NSP pretraining: a config becomes a Job, and the Job a run.

python -m bert_tpu.pretrain --config configs/bert.py:medium --workdir W --config.data.dir=CORPUS [--config.x.y=z]
"""

import concurrent.futures
import functools
import sys

import jax
import ml_collections

from bert_tpu.core import command, config
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec, packing
from bert_tpu.distributed import hosts
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import flops, param_layout, sizes, transformer
from bert_tpu.monitoring import health
from bert_tpu.pretrain import mlm, mlm_nsp, objective, samples
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, loop, optim, train_step, trainer, workdir

SCALARS = ("seed", "batch_size", "accumulate", "num_steps", "init_from", "compile_cache")
# Keys of the sections that nothing takes before the workdir is claimed; `model`, `data` and `optim` are called at once.
SECTIONS = trainer.SECTIONS | {
    "eval": ("every_steps", "num_batches"),
    "plan": ("price", "pue", "kgco2e_per_kwh"),
}
LOCAL = ("data.dir", "compile_cache")  # may differ between the hosts of a run
MEND = (
    "--replay {step} shows where it comes from; a lower optim.learning_rate in a new --workdir, with a checkpoint of "
    "this one as init_from, often mends it"
)
MINIMA = trainer.MINIMA | {
    "model.vocab_size": 1, "model.hidden_size": 1, "model.num_layers": 1, "model.num_heads": 1,
    "model.intermediate_size": 1, "model.type_vocab_size": 2, "optim.warmup_steps": 0, "eval.num_batches": 0,
    "plan.pue": 1, "plan.kgco2e_per_kwh": 0,
}  # fmt: skip


def job(cfg) -> jobs.Job:
    """The Job of a config, of which every key is checked. Reads no data: a run can be planned before it has any."""
    config.check_keys(cfg, "config", (*SCALARS, "model", "data", "optim", *SECTIONS), optional=("objective",))
    for name, keys in SECTIONS.items():
        config.check_keys(cfg[name], f"config.{name}", keys)
    bert = config.call(transformer.Bert, cfg.model, "model", parent=None, name=None)
    rule, rate = config.call(optim.make, cfg.optim, "optim", num_steps=cfg.num_steps)
    spec = make_batch_spec(cfg)
    config.check_minima(cfg, MINIMA)
    sizes.check(bert, spec.seq_lens[-1])
    lens = spec.used_lens()
    objective = find_objective(cfg)
    return jobs.Job(
        init=lambda key: param_layout.pack(transformer.init(bert, key)),
        loss=functools.partial(objective.loss, bert),
        counts=objective.counts,
        tx=rule,
        learning_rate=rate,
        shapes={n: spec.shapes(n) for n in lens},
        flops={n: flops.train(bert, spec.rows(n), n, spec.predictions(n)) for n in lens},
        seed=cfg.seed,
        accumulate=cfg.accumulate,
        dtype=cfg.model.dtype,
        exact_loss=None if bert.softmax == "exact" else functools.partial(objective.loss, bert.clone(softmax="exact")),
    )


def find_objective(cfg: ml_collections.ConfigDict) -> objective.Objective:
    """The objective that the config's key `objective` names; MLM + NSP if it has no such key."""
    name = cfg.get("objective", "mlm_nsp")
    match name:
        case "mlm_nsp":
            return mlm_nsp.OBJECTIVE
        case "mlm":
            return mlm.OBJECTIVE
    raise command.UserError(f"config.objective is {name!r}: give mlm_nsp or mlm")


def make_batch_spec(cfg) -> batch_spec.BatchSpec:
    """Returns the checked spec of a config's batches."""
    given = {"seed": cfg.seed, "batch_size": cfg.batch_size, "num_steps": cfg.num_steps}
    return batch_spec.check(config.call(batch_spec.BatchSpec, cfg.data, "data", **given))


def run(cfg, directory, group=None, age_s=0.0) -> int:
    """Trains `cfg` in `directory`, as running.run says."""
    workdir.check_format(directory)
    return trainer.run(cfg, training(cfg, group), directory, group, free=LOCAL, age_s=age_s)


def training(cfg, group=None) -> trainer.Training:
    """What a run of `cfg` is; its corpus is opened. group: the Hosts that train it; None: this process alone."""
    this, spec, lock = job(cfg), make_batch_spec(cfg), open_corpus(cfg)
    return trainer.Training(
        job=this,
        schedule=spec,
        objectives=find_objective(cfg).losses,
        facts={"seed": cfg.seed, "corpus": {"sha256": lock.sha256, "tokenizer_sha256": lock.tokenizer_sha256}},
        vocabulary=vocab.load(lock.directory),
        size=sum(x.size for x in jax.tree.leaves(param_layout.shapes(cfg.model))),
        first_params=functools.partial(_init_from, cfg, lock, group or hosts.Hosts()) if cfg.init_from else None,
        compile_programs=functools.partial(_compile, cfg, this, spec),
        open_data=functools.partial(open_data, cfg, lock, spec),
        warmup=optim.WarmUp("optim.warmup_steps", cfg.optim.warmup_steps, cfg.optim.warmup_steps),
        advice=MEND,
    )


def open_corpus(cfg) -> store.Lock:
    """The corpus that `cfg.data.dir` names, once its vocabulary is the model's."""
    if not cfg.data.dir:
        raise command.UserError("no corpus: give --config.data.dir=DIR, a folder that tools.prepare_corpus made")
    lock = store.read(cfg.data.dir)
    if lock.vocab_size != cfg.model.vocab_size:
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has a vocabulary of {lock.vocab_size:,} pieces and the model one of "
            f"{cfg.model.vocab_size:,}: "
            + ("prepare it with the tokenizer of init_from or, if that is the corpus', " if cfg.init_from else "")
            + f"give --config.model.vocab_size={lock.vocab_size}"
        )
    if cfg.eval.num_batches and lock.content["heldout"]["texts"] < 2:
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has no two held-out texts to evaluate on: give "
            "--config.eval.num_batches=0, or prepare it again with a larger --heldout"
        )
    return lock


def _compile(cfg, this, spec, on):
    """The programs of a run, that of the samples beside the others."""
    if not cfg.eval.num_batches:
        return train_step.compile_programs(this, on)
    bert = config.call(transformer.Bert, cfg.model, "model", parent=None, name=None)
    shapes = samples.shapes(spec, on.size, jax.process_count())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = pool.submit(samples.compile_program, this, bert, shapes, on)
        return train_step.compile_programs(this, on)._replace(samples=compiling.result())


def _init_from(cfg, lock, group, like):
    """The parameters of `cfg.init_from`, which must mean the same in `cfg.model`, in the places of `like`."""
    pretrained.check_same(cfg.init_from, cfg.model, vocab.load(lock.directory))
    start = pretrained.load(cfg.init_from)
    if start.absent and group.index == 0:
        absent = ", no ".join(start.absent)
        print(f"{cfg.init_from} has no {absent}: made anew from seed {cfg.seed}", file=sys.stderr)
    return pretrained.place(param_layout.pack(hf.complete(start, cfg.seed)), like, group)


def open_data(cfg, lock, spec, devices, group=None) -> trainer.Data:
    """The batches of a run on so many devices, and its evaluation. group: the Hosts, which all call it."""
    from bert_tpu.data import corpus_batches

    host = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    share = corpus_batches.load(lock, "train", **spec.row_counts(), **host)
    heldout = []
    if cfg.eval.num_batches:
        of_heldout = corpus_batches.load(lock, "heldout", **spec.row_counts(), **host)
        heldout = list(corpus_batches.heldout(of_heldout, spec, cfg.eval.num_batches))
        [rows, *_] = samples.shapes(spec, devices, host["process_count"])["input_ids"]
        chosen = samples.choose_rows(heldout[0][1], share.pieces, share.special, rows // host["process_count"])

    # What is printed of the data is about all hosts' data.
    of_hosts = (group or hosts.Hosts()).gather(
        [corpus_batches.examples_per_row(share, spec), corpus_batches.label_counts(heldout)]
    )
    examples_per_row = sum(each for each, _ in of_hosts) / len(of_hosts)
    commoner = health.commoner_shares([counts for _, counts in of_hosts])
    facts = health.Facts(
        unigram_entropy=lock.unigram_entropy,
        unknown_share=lock.content["train"]["unknown_share"],
        warmup_steps=cfg.optim.warmup_steps,
        commoner=commoner,
        metrics=find_objective(cfg).metrics,
    )
    warned = set()

    def evaluate(programs, on, state, books, finished):
        books.evaluation(finished, loop.evaluate(programs, on, state.params, heldout))
        if heldout:
            books.samples(finished, samples.predict(programs.samples, on, state.params, chosen, share.pieces))
            books.write_facts(facts)
        lines = books.lines()
        if said := health.remark(lines, facts, cfg.num_steps):
            books.remark(finished, said)
        for warning in health.check(lines, facts):
            if warning.name not in warned:
                warned.add(warning.name)
                books.say(f"warning: {warning.sentence}")

    note = packing.note(examples_per_row, spec, devices * cfg.accumulate) if examples_per_row else ""
    return trainer.Data(functools.partial(corpus_batches.train, share, spec), evaluate, note)


def parse(parser, argv=None):
    """Parses as config.parse; sizes that the config leaves open are those of the model in `init_from`."""
    args = config.parse(parser, argv)
    args.config = pretrained.sized(args.config)
    return args
