"""MLM + NSP pretraining: a config becomes a Job, and the Job a run.

python -m bert_tpu.pretrain --config configs/bert.py:medium --workdir W --config.data.dir=CORPUS [--config.x.y=z]
"""

import concurrent.futures
import contextlib
import functools
import os
import sys

from etils import epath
import jax

from bert_tpu import (
    beside,
    cache,
    checkpoint,
    command,
    config,
    corpus,
    flops,
    hosts,
    hours,
    layout,
    loop,
    memory,
    mesh,
    model,
    names,
    nonfinite,
    objective,
    optim,
    places,
    recipe,
    rendezvous,
    replay,
    sizes,
    stop,
    train,
    vocab,
    watchdog,
    workdir,
)

SCALARS = ("seed", "batch_size", "accumulate", "num_steps", "init_from", "compile_cache")
# Keys of the sections that nothing takes before the workdir is claimed; `model`, `data` and `optim` are called at once.
SECTIONS = {
    "checkpoint": ("every_steps", "keep_last", "keep_every"),
    "eval": ("every_steps", "num_batches"),
    "log": ("every_steps", "tensorboard"),
    "profile": ("first_step", "num_steps"),
    "nonfinite": ("stop_after",),
    "watchdog": ("silent_s", "stacks_s", "exit_s"),
    "plan": ("price", "pue", "kgco2e_per_kwh"),
}
LOCAL = ("data.dir", "compile_cache")  # may differ between the hosts of a run
LEAST = {
    "accumulate": 1, "model.vocab_size": 1, "model.hidden_size": 1, "model.num_layers": 1, "model.num_heads": 1,
    "model.intermediate_size": 1, "model.type_vocab_size": 1, "optim.learning_rate": 0, "optim.warmup_steps": 0,
    "checkpoint.every_steps": 1, "checkpoint.keep_last": 1, "checkpoint.keep_every": 0, "eval.every_steps": 1,
    "eval.num_batches": 0, "log.every_steps": 1, "profile.num_steps": 0,
    "nonfinite.stop_after": 0, "watchdog.silent_s": 2, "watchdog.stacks_s": 0, "watchdog.exit_s": 0,
    "plan.pue": 1, "plan.kgco2e_per_kwh": 0,
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
    sizes.check(bert, rules.seq_lens[-1])
    rate = {key: cfg.optim[key] for key in ("schedule", "learning_rate", "warmup_steps")}
    lens = rules.used_lens()
    return train.Job(
        init=lambda key: layout.pack(model.init(bert, key)),
        loss=functools.partial(objective.loss, bert),
        counts=objective.counts,
        tx=tx,
        learning_rate=optim.make_schedule(num_steps=cfg.num_steps, **rate),
        shapes={n: rules.shapes(n) for n in lens},
        flops={n: flops.train(bert, rules.rows(n), n, rules.predictions(n)) for n in lens},
        seed=cfg.seed,
        accumulate=cfg.accumulate,
        dtype=cfg.model.dtype,
    )


def make_recipe(cfg) -> recipe.Recipe:
    """The checked recipe of a config's batches."""
    given = {"seed": cfg.seed, "batch_size": cfg.batch_size, "num_steps": cfg.num_steps}
    return recipe.check(config.call(recipe.Recipe, cfg.data, "data", **given))


def run(cfg, directory, group=None, age_s=0.0) -> int:
    """Trains `cfg` in `directory`, from its newest checkpoint if it has one; returns the exit code.

    group: the Hosts that all run this, each with a call of its own; None: this process alone, `age_s` old by now.
    """
    group = group or hosts.Hosts()
    this, rules, lock = job(cfg), make_recipe(cfg), open_corpus(cfg)
    cache.use(cfg.compile_cache)
    memory.keep()
    on = mesh.make(hosts.devices())
    rules.check_division(on.size, cfg.accumulate)
    facts = {"seed": cfg.seed, "corpus": {"sha256": lock.sha256, "tokenizer_sha256": lock.tokenizer_sha256}}
    with (
        watchdog.Watchdog(**cfg.watchdog, group=group) as dog,
        stop.Stop(group) as stopping,
        workdir.claim(directory, cfg.to_dict() | facts, group=group, free=LOCAL),
        contextlib.closing(
            checkpoint.Checkpoints(**cfg.checkpoint, directory=directory / "checkpoints", group=group)
        ) as checkpoints,
    ):
        if group.index == 0:
            workdir.put_tokenizer(directory, vocab.load(lock.directory))
        state, meta = start(cfg, this, on, checkpoints)
        first_step, writes = int(state.step), group.index == 0
        clock = hours.Hours(directory, writes=writes, age_s=age_s)
        with beside.open_books(cfg, this, rules, on, directory, first_step, meta, writes) as (books, profile):
            if first_step >= cfg.num_steps:
                books.say(f"{directory} has all {cfg.num_steps:,} steps already")
                return 0
            clock.resume(first_step)
            dog.at(first_step, "compile")
            clock.enter("compile")
            programs, batches_from, heldout = _make_ready(cfg, this, on, lock, rules, state, books)
            stopping.wait_for_loop()
            sides = beside.Beside(
                directory, facts, group, stopping, dog, checkpoints, clock, nonfinite.Skips(**cfg.nonfinite), books,
                profile,
            )  # fmt: skip
            state = loop.run(
                programs, on, state, batches_from(first_step), first_step=first_step, num_steps=cfg.num_steps,
                eval_every=cfg.eval.every_steps, save_every=checkpoints.every_steps,
                hooks=beside.hooks(sides, on, programs, heldout, batches_from),
            )  # fmt: skip
            checkpoints.wait()
            clock.write(int(state.step))
            books.say(clock.summary())
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
    abstract = like(this, on)
    restored = checkpoints.restore(abstract)
    if restored is not None:
        return restored
    placed = jax.tree.map(lambda x: x.sharding, abstract)
    state = jax.jit(lambda: train.new_state(this), out_shardings=placed)()
    if cfg.init_from:
        params = checkpoint.load_params(cfg.init_from, abstract.params)
        layout.check(params, cfg.model.vocab_size)
        state = state._replace(params=params)
    return state, {"unlogged": {}}


def like(this, on):
    """Shapes, types and places of a State: what is saved is restored as that, on whatever devices it was before."""
    shapes = jax.eval_shape(lambda: train.new_state(this))
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, train.shardings(this, on)
    )


def _make_ready(cfg, this, on, lock, rules, state, books):
    """The compiled programs, the function step -> training batches from there on, and the held-out ones."""
    lens = rules.used_lens()
    size = sum(x.size for x in jax.tree.leaves(names.shapes(cfg.model)))
    books.say(
        f"{on.size} x {on.devices.flat[0].device_kind}, {size:,} parameters, step {int(state.step):,} of "
        f"{cfg.num_steps:,}; compiling for lengths {', '.join(map(str, lens))} ..."
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = pool.submit(train.compile, this, on, lens)
        batches_from, heldout, note = _open_data(cfg, lock, rules, on.size)  # meanwhile
        if note:
            books.say(note)
        return compiling.result(), batches_from, heldout


def _open_data(cfg, lock, rules, devices):
    """The function step -> iterator of training batches from there on, the held-out ones, and what is to be said."""
    from bert_tpu import data  # brings TensorFlow, which takes seconds; the planner needs none

    host = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    share = data.load(lock, "train", **rules.row_counts(), **host)
    heldout = []
    if cfg.eval.num_batches:
        of_heldout = data.load(lock, "heldout", **rules.row_counts(), **host)
        heldout = list(data.heldout(of_heldout, rules, cfg.eval.num_batches))
    note = data.note(share, rules, devices * cfg.accumulate)
    return functools.partial(data.train, share, rules), heldout, note


def again(cfg, directory, step):
    """Prints what there is to see of one `step` of the run in `directory`, as configured and in float32."""
    cfg = cfg.copy_and_resolve_references().unlock()
    cfg.eval.num_batches = 0
    if not 0 <= step < cfg.num_steps:
        raise command.UserError(f"--replay {step}: the run has steps 0 to {cfg.num_steps - 1:,}")
    jobs = {f"as configured ({cfg.model.dtype})": job(cfg)}
    cfg.model.dtype = "float32"
    jobs["in float32"] = job(cfg)
    path, missing = nonfinite.params_of(directory, step)
    params = jax.device_get(checkpoint.load_params(path, like(job(cfg), mesh.make(jax.devices()[:1])).params))
    batches_from, *_ = _open_data(cfg, open_corpus(cfg), make_recipe(cfg), 1)
    seq_len, batch = next(batches_from(step))
    print(f"step {step:,}, from 0, of {seq_len} tokens; parameters of {path}"
          + (f", which lack the {missing:,} updates before it" if missing else ""))  # fmt: skip
    replay.tell(jobs, params, batch, step, print, shown=lambda tree: layout.cut(tree, cfg.model.vocab_size))


def quiet_tensorflow():
    """Keeps TensorFlow's start-up notes out of the terminal, and Keras out; to be called before it is imported."""
    # The second setting silences a note that the first does not; the third names an old Keras, which is not there.
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "TF_USE_LEGACY_KERAS": "1"}
    os.environ.update(settings | os.environ)


def main():
    """Reads the command line and runs, on as many hosts as the environment tells of."""
    quiet_tensorflow()
    checkpoint.quiet()
    with rendezvous.connect() as group:
        parser = command.Parser(description=__doc__.split("\n", 2)[2])
        parser.add_argument("--workdir", required=True, type=epath.Path, help="for checkpoints, metrics and events")
        parser.add_argument(
            "--replay", type=int, metavar="STEP",
            help="compute one step (from 0) of the run in --workdir again, on this CPU, and show what is not finite",
        )  # fmt: skip
        args = config.parse(parser)
        if args.replay is not None:
            jax.config.update("jax_platforms", "cpu")
            again(args.config, places.absolute(args.workdir), args.replay)
            return
        code = run(args.config, places.absolute(args.workdir), group, hours.age_s())
    sys.exit(code)


if __name__ == "__main__":
    command.run(main)
