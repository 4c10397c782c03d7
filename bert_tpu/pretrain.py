"""MLM + NSP pretraining: a config becomes a Job, and the Job a run.

python -m bert_tpu.pretrain --config configs/bert.py:medium --workdir W --config.data.dir=CORPUS [--config.x.y=z]
"""

import concurrent.futures
import functools
import os
import pathlib
import sys

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags

from bert_tpu import checkpoint, command, config, corpus, log, mesh, model, optim, recipe, stop, train, vocab, workdir

OBJECTIVES = ("mlm_loss", "nsp_loss")


def job(cfg) -> train.Job:
    """The Job of a config. Reads no data, so that a run can be planned before it has any."""
    bert = config.call(model.Bert, cfg.model, "model", parent=None, name=None)
    rules = make_recipe(cfg)
    model.check(bert, rules.seq_lens[-1])
    tx = config.call(optim.make, cfg.optim, "optim", num_steps=cfg.num_steps)
    rate = {key: cfg.optim[key] for key in ("schedule", "learning_rate", "warmup_steps")}
    lens = rules.used_lens()
    return train.Job(
        init=functools.partial(model.init, bert),
        loss=functools.partial(loss, bert),
        counts=counts,
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


def counts(batch):
    """What the objectives are divided by: predictions (plus 1e-5, as run_pretraining.py has it), and rows."""
    return {
        "mlm_loss": jnp.sum(batch["masked_ids"] > 0) + 1e-5,
        "nsp_loss": jnp.float32(batch["next_sentence_label"].shape[0]),
    }


def loss(bert, params, batch, key) -> train.Sums:
    """Cross entropies in nats and hits of both heads, each as (sum, count); unused slots (id 0) weigh nothing."""
    logits = bert.apply(
        {"params": params}, batch["input_ids"], batch["token_type_ids"], batch["attention_mask"],
        batch["masked_positions"], dropout_key=key,
    )  # fmt: skip
    weights = (batch["masked_ids"] > 0).astype(jnp.float32)
    labels = batch["next_sentence_label"]
    return _head("mlm", logits.mlm_BMV, batch["masked_ids"], weights) | _head(
        "nsp", logits.nsp_BC, labels, jnp.ones(labels.shape, jnp.float32)
    )


def _head(name, logits, labels, weights):
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - label_logits
    # Instead of an argmax, which would carry indices through the reduction: nothing is above the label's logit.
    hits = (label_logits >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    count = jnp.sum(weights)
    return {f"{name}_loss": (jnp.sum(weights * losses), count), f"{name}_accuracy": (jnp.sum(weights * hits), count)}


def run(cfg, directory) -> int:
    """Trains `cfg` in `directory`, from its newest checkpoint if it has one; returns the exit code."""
    this, rules = job(cfg), make_recipe(cfg)
    lock = open_corpus(cfg)
    _set_up_jax(cfg)
    on = mesh.make(jax.devices())
    mesh.check_rows(on, cfg.batch_size, cfg.accumulate)
    hashes = {"sha256": lock.sha256, "tokenizer_sha256": lock.tokenizer_sha256}
    with workdir.claim(directory, cfg.to_dict() | {"corpus": hashes}), stop.Stop() as stopping:
        vocab.save(vocab.load(lock.directory), directory / "tokenizer")
        checkpoints = config.call(checkpoint.Checkpoints, cfg.checkpoint, "checkpoint", directory=directory / "checkpoints")
        state = start(cfg, this, on, checkpoints)
        first_step = int(state.step)
        books = config.call(
            log.Log, cfg.log, "log", workdir=directory, first_step=first_step, num_steps=cfg.num_steps,
            batch_size=cfg.batch_size, objectives=OBJECTIVES, writes=jax.process_index() == 0,
        )  # fmt: skip
        if first_step >= cfg.num_steps:
            books.say(f"{directory} has all {cfg.num_steps:,} steps already")
            return 0
        lens = rules.used_lens()
        books.say(
            f"{on.size} x {on.devices.flat[0].device_kind}, {sum(x.size for x in jax.tree.leaves(state.params)):,} "
            f"parameters, step {first_step:,} of {cfg.num_steps:,}; compiling for lengths {', '.join(map(str, lens))} ..."
        )
        with concurrent.futures.ThreadPoolExecutor() as pool:
            compiling = pool.submit(train.compile, this, on, lens)
            batches, heldout = _open_data(cfg, lock, rules, first_step)  # meanwhile
            programs = compiling.result()
        if not stopping.requested():
            hooks = _hooks(this, on, programs, books, checkpoints, heldout, stopping, cfg, hashes)
            train.run(
                programs, on, state, batches, first_step=first_step, num_steps=cfg.num_steps,
                eval_every=cfg.eval.every_steps, save_every=cfg.checkpoint.every_steps, hooks=hooks,
            )  # fmt: skip
        checkpoints.close()
        books.close()
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
    return lock


def start(cfg, this, on, checkpoints) -> train.State:
    """The newest checkpoint's state; without one step 0, with the parameters of `init_from` where it is given."""
    whole = mesh.replicated(on)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), jax.eval_shape(lambda: train.new_state(this))
    )
    state = checkpoints.restore(abstract)
    if state is None:
        state = jax.jit(lambda: train.new_state(this), out_shardings=whole)()
        if cfg.init_from:
            state = state._replace(params=checkpoint.load_params(cfg.init_from, abstract.params))
    return state


def _set_up_jax(cfg):
    if cfg.compile_cache:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cfg.compile_cache).expanduser()))


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


def _hooks(this, on, programs, books, checkpoints, heldout, stopping, cfg, hashes) -> train.Hooks:
    peak = mesh.peak_flops(on)

    def step(step, seq_len, sums, seconds, input_s):
        books.step(
            step, seq_len, sums, seconds=seconds, input_s=input_s, learning_rate=this.learning_rate,
            mfu=peak and this.flops[seq_len] / seconds / peak,
        )  # fmt: skip

    def evaluate(step, state):
        if heldout:
            books.evaluation(step, train.evaluate(programs, on, state.params, heldout))

    def profile(step):
        first = cfg.profile.first_step
        if cfg.profile.num_steps and step == first:
            jax.profiler.start_trace(str(books.workdir / "profile"))
        elif cfg.profile.num_steps and step == first + cfg.profile.num_steps:
            jax.profiler.stop_trace()

    return train.Hooks(
        step=step,
        evaluate=evaluate,
        save=lambda step, state: checkpoints.save(state, {"step": step, "corpus": hashes}),
        profile=profile,
        should_stop=stopping.requested,
    )


def quiet_tensorflow():
    """Keeps TensorFlow's start-up notes out of the terminal; to be called before it is imported."""
    # The second setting only silences a note that the first does not.
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"} | os.environ)


def main():
    """Reads the flags and runs."""
    flag = config_flags.DEFINE_config_file("config", None, "file of the config, with :variant", lock_config=True)
    where = flags.DEFINE_string("workdir", None, "the run's directory: checkpoints, metrics, events")
    config.parse(sys.argv, required=("config", "workdir"))
    quiet_tensorflow()
    code = run(flag.value, pathlib.Path(where.value).absolute())
    if code:
        sys.exit(code)


if __name__ == "__main__":
    command.run(main)
