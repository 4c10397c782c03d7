"""MLM + NSP pretraining: a config becomes a Job, and the Job a run.

python -m bert_tpu.pretrain --config configs/bert.py:medium --workdir W --config.data.dir=CORPUS [--config.x.y=z]
"""

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import sys

import jax

from bert_tpu import (
    checkpoint,
    command,
    config,
    corpus,
    log,
    loop,
    memory,
    mesh,
    model,
    objective,
    optim,
    recipe,
    stop,
    train,
    vocab,
    workdir,
)

SCALARS = ("seed", "batch_size", "accumulate", "num_steps", "init_from", "compile_cache")
# Keys of the sections that nothing takes before the workdir is claimed; `model`, `data` and `optim` are called at once.
SECTIONS = {
    "checkpoint": ("every_steps", "keep_last", "keep_every"),
    "eval": ("every_steps", "num_batches"),
    "log": ("every_steps", "tensorboard"),
    "profile": ("first_step", "num_steps"),
    "plan": ("price", "pue", "kgco2e_per_kwh"),
}
LEAST = {
    "accumulate": 1, "model.vocab_size": 1, "model.hidden_size": 1, "model.num_layers": 1, "model.num_heads": 1,
    "model.intermediate_size": 1, "model.type_vocab_size": 1, "optim.learning_rate": 0, "optim.warmup_steps": 0,
    "checkpoint.every_steps": 1, "checkpoint.keep_last": 1, "checkpoint.keep_every": 0, "eval.every_steps": 1,
    "eval.num_batches": 0, "log.every_steps": 1, "profile.num_steps": 0, "plan.pue": 1, "plan.kgco2e_per_kwh": 0,
}  # fmt: skip


def job(cfg) -> train.Job:
    """The Job of a config, of which every key is checked. Reads no data: a run can be planned before it has any."""
    config.check_keys(cfg, "config", (*SCALARS, "model", "data", "optim", *SECTIONS))
    for name, keys in SECTIONS.items():
        config.check_keys(cfg[name], f"config.{name}", keys)
    bert = config.call(model.Bert, cfg.model, "model", parent=None, name=None)
    tx = config.call(optim.make, cfg.optim, "optim", num_steps=cfg.num_steps)
    rules = make_recipe(cfg)
    config.check_least(cfg, LEAST)
    model.check(bert, rules.seq_lens[-1])
    rate = {key: cfg.optim[key] for key in ("schedule", "learning_rate", "warmup_steps")}
    lens = rules.used_lens()
    return train.Job(
        init=functools.partial(model.init, bert),
        loss=functools.partial(objective.loss, bert),
        counts=objective.counts,
        tx=tx,
        learning_rate=optim.make_schedule(num_steps=cfg.num_steps, **rate),
        shapes={n: rules.shapes(n) for n in lens},
        flops={n: model.train_flops(bert, cfg.batch_size, n, rules.predictions(n)) for n in lens},
        seed=cfg.seed,
        accumulate=cfg.accumulate,
    )


def make_recipe(cfg) -> recipe.Recipe:
    """The checked recipe of a config's batches."""
    given = {"seed": cfg.seed, "batch_size": cfg.batch_size, "num_steps": cfg.num_steps}
    return recipe.check(config.call(recipe.Recipe, cfg.data, "data", **given))


def run(cfg, directory) -> int:
    """Trains `cfg` in `directory`, from its newest checkpoint if it has one; returns the exit code."""
    this, rules, lock = job(cfg), make_recipe(cfg), open_corpus(cfg)
    _use_compile_cache(cfg)
    memory.keep()
    on = mesh.make(jax.devices())
    mesh.check_rows(on, cfg.batch_size, cfg.accumulate)
    hashes = {"sha256": lock.sha256, "tokenizer_sha256": lock.tokenizer_sha256}
    with (
        workdir.claim(directory, cfg.to_dict() | {"corpus": hashes}),
        stop.Stop() as stopping,
        contextlib.closing(
            checkpoint.Checkpoints(**cfg.checkpoint, directory=directory / "checkpoints")
        ) as checkpoints,
    ):
        vocab.save(vocab.load(lock.directory), directory / "tokenizer")
        state, meta = start(cfg, this, on, checkpoints)
        with _open_books(cfg, this, rules, on, directory, int(state.step), meta) as (books, profile):
            if state.step >= cfg.num_steps:
                books.say(f"{directory} has all {cfg.num_steps:,} steps already")
                return 0
            programs, batches, heldout = _make_ready(cfg, this, on, lock, rules, state, books)
            stopping.wait_for_loop()
            hooks = _hooks(on, programs, heldout, books, profile, checkpoints, hashes, stopping)
            state = loop.run(
                programs, on, state, batches, first_step=int(state.step), num_steps=cfg.num_steps,
                eval_every=cfg.eval.every_steps, save_every=checkpoints.every_steps, hooks=hooks,
            )  # fmt: skip
            checkpoints.wait()
            if stopping.requested() and state.step < cfg.num_steps:
                books.say(f"stopped; step {int(state.step):,} is saved and the same command goes on from there")
    return stopping.exit_code()


def open_corpus(cfg) -> corpus.Lock:
    """The corpus that `cfg.data.dir` names, once its vocabulary is the model's."""
    if not cfg.data.dir:
        raise command.UserError("no corpus: give --config.data.dir=DIR, a folder that tools.prepare_corpus made")
    lock = corpus.read(cfg.data.dir)
    if lock.vocab_size != cfg.model.vocab_size:
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has a vocabulary of {lock.vocab_size:,} pieces and the model one of "
            f"{cfg.model.vocab_size:,}: give --config.model.vocab_size={lock.vocab_size}"
        )
    if cfg.eval.num_batches and sum(info.documents for info in lock.splits["heldout"]) < 2:
        raise command.UserError(
            f"the corpus in {cfg.data.dir} has no two held-out documents to evaluate on: give "
            "--config.eval.num_batches=0, or prepare it again with a larger --heldout"
        )
    return lock


def start(cfg, this, on, checkpoints) -> tuple[train.State, dict]:
    """The newest checkpoint's state and meta; without one step 0, with the parameters of `init_from` if it is given."""
    whole = mesh.replicated(on)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), jax.eval_shape(lambda: train.new_state(this))
    )
    restored = checkpoints.restore(abstract)
    if restored is not None:
        return restored
    state = jax.jit(lambda: train.new_state(this), out_shardings=whole)()
    if cfg.init_from:
        state = state._replace(params=checkpoint.load_params(cfg.init_from, abstract.params))
    return state, {"unlogged": {}}


def _use_compile_cache(cfg):
    if cfg.compile_cache:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cfg.compile_cache).expanduser()))
        # Every program, however quickly built: a restart compiles nothing.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@contextlib.contextmanager
def _open_books(cfg, this, rules, on, directory, first_step, meta):
    """The run's Log and Profile, open while the context lasts."""
    peak = mesh.peak_flops(on)
    books = log.Log(
        **cfg.log, workdir=directory, first_step=first_step, num_steps=cfg.num_steps,
        batch_size=cfg.batch_size, objectives=objective.NAMES, learning_rate=this.learning_rate,
        work=lambda step: sum(rules.before(step, n) * flops for n, flops in this.flops.items()),
        peak_s={n: flops / peak for n, flops in this.flops.items()} if peak else {},
        unlogged=meta["unlogged"], writes=jax.process_index() == 0,
    )  # fmt: skip
    profile = log.Profile(**cfg.profile, directory=directory / "profile")
    with contextlib.closing(books), contextlib.closing(profile):
        yield books, profile


def _make_ready(cfg, this, on, lock, rules, state, books):
    """The compiled programs, the training batches from the state's step on, and the held-out ones."""
    lens = rules.used_lens()
    size = sum(x.size for x in jax.tree.leaves(state.params))
    books.say(
        f"{on.size} x {on.devices.flat[0].device_kind}, {size:,} parameters, step {int(state.step):,} of "
        f"{cfg.num_steps:,}; compiling for lengths {', '.join(map(str, lens))} ..."
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = pool.submit(train.compile, this, on, lens)
        batches, heldout = _open_data(cfg, lock, rules, int(state.step))  # meanwhile
        return compiling.result(), batches, heldout


def _open_data(cfg, lock, rules, first_step):
    """The iterator of training batches from `first_step`, and the list of held-out ones."""
    from bert_tpu import data  # brings TensorFlow, which takes seconds; the planner needs none

    host = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = data.train(data.load(lock, "train", batch_size=cfg.batch_size, **host), rules, first_step)
    heldout = []
    if cfg.eval.num_batches:
        share = data.load(lock, "heldout", batch_size=cfg.batch_size, **host)
        heldout = list(data.heldout(share, rules, cfg.eval.num_batches))
    return batches, heldout


def _hooks(on, programs, heldout, books, profile, checkpoints, hashes, stopping) -> loop.Hooks:
    def step(*finished):
        checkpoints.check()
        books.step(*finished)

    def evaluate(step, state):
        books.evaluation(step, loop.evaluate(programs, on, state.params, heldout))

    def save(_, state):
        checkpoints.save(state, {"corpus": hashes, "unlogged": books.unlogged()})

    return loop.Hooks(step=step, evaluate=evaluate, save=save, profile=profile.before, should_stop=stopping.requested)


def quiet_tensorflow():
    """Keeps TensorFlow's start-up notes out of the terminal; to be called before it is imported."""
    # The second setting only silences a note that the first does not.
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"} | os.environ)


def main():
    """Reads the command line and runs."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="for checkpoints, metrics and events")
    args = config.parse(parser)
    quiet_tensorflow()
    checkpoint.quiet()
    sys.exit(run(args.config, args.workdir.absolute()))


if __name__ == "__main__":
    command.run(main)
