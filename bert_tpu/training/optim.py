"""Optimizers and learning-rate schedules; `make(**cfg.optim)` is the whole interface.

The learning rate of a run comes from here, on one path. config.optim -> `make` -> Optimizer.rate, a function of the
step -> jobs.Job.learning_rate. The compiled step (train_step.jit_step) multiplies the update by it, and the log
(monitoring.log) prints it from the same function.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_tpu.core import batch_ramp, command
from bert_tpu.training import muon


class WarmUp(NamedTuple):
    """The config's key that sets the warm-up, the value of that key, and the number of steps that it means."""

    key: str
    value: int | float
    steps: int


class Peak(NamedTuple):
    """The highest learning rate of a schedule, and the formula that gives it; "" if it is optim.learning_rate."""

    rate: float
    formula: str = ""


class Optimizer(NamedTuple):
    """An update rule and a learning rate: a step moves the parameters by -rate(step) x the rule's update.

    They are apart because the rule does not count a step that is skipped. So a skipped step does not shift the
    schedule, and the rate that the log prints is the rate of the update.
    """

    rule: optax.GradientTransformation
    rate: Callable[[Any], Any]  # step, the first being 0 -> learning rate
    peak: Peak
    warmup: WarmUp


def make(
    *,
    name: str,
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    num_steps: int,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    warmup_share: float = 0.0,
    rate_width: int = 0,
    hidden_size: int = 0,
    batch_sizes: batch_ramp.BatchSizes | None = None,
) -> Optimizer:
    """Returns the Optimizer of a config's section. Raises UserError for an unknown name and for values out of range.

    name: "bert_adamw" (optimization.py of google-research/bert: no bias correction, eps outside the root, decoupled
        decay), "adamw" (Loshchilov & Hutter 2019, bias-corrected), "lamb" (You et al. 2020) or "muon" (muon.py for the
        matrices of the layers, "adamw" for all other parameters)
    learning_rate: the peak, or if `rate_width` is above 0 what `find_peak` takes
    schedule, num_steps, batch_sizes: as in `make_schedule`
    warmup_steps, warmup_share: as in `find_warmup`
    b1, b2: shares of the old moments that a step keeps, from 0 to below 1; Muon's own share is muon.MOMENTUM
    eps: added to the root of the second moment
    weight_decay: of matrices and embeddings; biases and norms are never decayed
    clip_norm: largest global norm of a gradient, which is clipped before the rule sees it; 0: no clipping
    rate_width, hidden_size: as in `find_peak`
    """
    for key, share in (("b1", b1), ("b2", b2)):
        if not 0 <= share < 1:
            raise command.UserError(f"optim.{key} is {share}: give a share from 0 to below 1")
    decay = optax.add_decayed_weights(weight_decay, mask=is_decayed)
    rules = {
        "bert_adamw": (scale_by_bert_adam(b1, b2, eps), decay),
        "adamw": (optax.scale_by_adam(b1, b2, eps), decay),
        # The trust ratio is for decayed parameters; norms and biases take Adam's step (the authors' exclude list).
        "lamb": (optax.scale_by_adam(b1, b2, eps), decay, optax.masked(scale_by_trust_ratio(weight_decay), is_decayed)),
        "muon": (muon.scale_by_muon(optax.scale_by_adam(b1, b2, eps)), decay),
    }
    if name not in rules:
        raise command.UserError(f"optim.name {name!r} is none of {', '.join(rules)}")
    clip = (optax.clip_by_global_norm(clip_norm),) if clip_norm else ()
    warmup = find_warmup(warmup_steps, warmup_share, num_steps, batch_sizes)
    peak = find_peak(learning_rate, rate_width, hidden_size)
    rate = make_schedule(
        schedule, learning_rate=peak.rate, warmup_steps=warmup.steps, num_steps=num_steps, batch_sizes=batch_sizes
    )
    return Optimizer(optax.chain(*clip, *rules[name]), rate, peak, warmup)


def find_warmup(
    warmup_steps: int, warmup_share: float, num_steps: int, batch_sizes: batch_ramp.BatchSizes | None = None
) -> WarmUp:
    """Returns the warm-up that the config sets, in steps or as a share of the run. Raises UserError if it sets both.

    warmup_steps: number of steps
    warmup_share: share of `num_steps`, from 0 to below 1; the product is rounded
    num_steps: steps of the run
    batch_sizes: those of a run with a batch ramp, whose share is one of the examples; None: all batches are full
    """
    if not 0 <= warmup_share < 1:
        raise command.UserError(f"optim.warmup_share is {warmup_share}: give a share of the steps, from 0 to below 1")
    if warmup_steps > 0 and warmup_share > 0:
        raise command.UserError(
            f"optim.warmup_steps is {warmup_steps:,} and optim.warmup_share {warmup_share}: set one of them to 0"
        )
    if warmup_share and batch_sizes and batch_sizes.ramp.rows:
        return WarmUp("optim.warmup_share", warmup_share, batch_sizes.step_at(warmup_share))
    if warmup_share:
        return WarmUp("optim.warmup_share", warmup_share, round(warmup_share * num_steps))
    return WarmUp("optim.warmup_steps", warmup_steps, warmup_steps)


def stored_warmup(config: Mapping[str, Any]) -> WarmUp:
    """Returns the warm-up of a pretraining with this config.json, of any release."""
    section, num_steps = config["optim"], config.get("num_steps", 0)
    batch_sizes = batch_ramp.BatchSizes(batch_ramp.read(config), config.get("batch_size", 0), num_steps)
    return find_warmup(section["warmup_steps"], section.get("warmup_share", 0.0), num_steps, batch_sizes)


def find_peak(learning_rate: float, rate_width: int, hidden_size: int) -> Peak:
    """Returns the peak of a model of `hidden_size`: learning_rate x sqrt(rate_width / hidden_size).

    Narrow models take higher rates. Vaswani et al. 2017 (arXiv:1706.03762, equation 3) divide the rate by the root of
    the width, and so does this. The rule does not know depth: with the norm after each residual (post-norm), 10 to 12
    layers diverge at rates that 2 to 4 layers need.

    learning_rate: the peak of a model of `rate_width`
    rate_width: a hidden size; 0: `learning_rate` is the peak of a model of every size
    hidden_size: the model's
    """
    if rate_width < 0:
        raise command.UserError(
            f"optim.rate_width is {rate_width}: give the hidden size that optim.learning_rate is for, or 0 for any size"
        )
    if not rate_width or hidden_size < 1:  # such a size is refused where sizes are checked
        return Peak(learning_rate)
    return Peak(
        learning_rate * math.sqrt(rate_width / hidden_size),
        f"optim.learning_rate {learning_rate:.3g} x sqrt(optim.rate_width {rate_width} / hidden size {hidden_size})",
    )


def make_schedule(
    schedule: str,
    *,
    learning_rate: float,
    warmup_steps: int,
    num_steps: int,
    batch_sizes: batch_ramp.BatchSizes | None = None,
) -> Callable[[Any], Any]:
    """Returns the function step -> learning rate; the first update is step 0. Raises UserError for an unknown schedule.

    schedule: "bert_linear" decays linearly over all steps from step 0 on, and the warm-up overrides it while it lasts,
        so at its end the rate drops from the peak by the share warmup_steps / num_steps (optimization.py of
        google-research/bert). "linear" and "cosine" decay over the steps after the warm-up. "constant" does not decay.
    learning_rate: the peak
    warmup_steps: steps over which the rate rises linearly from 0
    num_steps: steps of the run
    batch_sizes: those of a run with a batch ramp. The rate is then a function of the examples before the step: that of
        a run of full batches after as many examples. The warm-up still ends at step warmup_steps. None: all are full
    """
    if batch_sizes and batch_sizes.ramp.rows:
        count = batch_sizes.batches_before
        rate = _schedule(schedule, learning_rate, count(warmup_steps), count(num_steps))
        return lambda step: rate(count(step))
    return _schedule(schedule, learning_rate, warmup_steps, num_steps)


def _schedule(schedule: str, learning_rate: float, warmup: float, end: float) -> Callable[[Any], Any]:
    """Returns `make_schedule`'s function of a number of full batches. warmup, end: such numbers"""
    ramp = optax.linear_schedule(0.0, learning_rate, warmup or 1)
    rest = max(end - warmup, 1)
    after = {
        "bert_linear": lambda step: learning_rate * (1.0 - jnp.minimum(step + warmup, end) / end),
        "linear": optax.linear_schedule(learning_rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(learning_rate, rest),
        "constant": optax.constant_schedule(learning_rate),
    }
    if schedule not in after:
        raise command.UserError(f"optim.schedule {schedule!r} is none of {', '.join(after)}")
    return optax.join_schedules([ramp, after[schedule]], [warmup])


def unreached_peak(rate: Callable[[Any], Any], peak: Peak, warmup: WarmUp, num_steps: int) -> str:
    """Returns a warning if the warm-up lasts as long as the run, or if its share rounds to 0 steps, else "".

    rate: as in Optimizer
    peak, warmup: the run's
    num_steps: steps of the run
    """
    if warmup.value and not warmup.steps:
        return (
            f"{warmup.key} {warmup.value:g} of {num_steps:,} steps rounds to 0: the run has no warm-up; give a "
            f"higher {warmup.key}"
        )
    if warmup.steps < num_steps or not peak.rate:
        return ""
    return (
        f"{warmup.key} is {warmup.value:,} and num_steps {num_steps:,}: the learning rate rises to "
        f"{float(rate(num_steps - 1)):.3g} at the last step and never reaches the peak, {peak.rate:.3g}; give a lower "
        f"{warmup.key}"
    )


class BertAdamState(NamedTuple):
    """Running first and second moments, each a pytree like the parameters."""

    m: Any
    v: Any


def scale_by_bert_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Returns Adam as BERT's authors wrote it: m / (sqrt(v) + eps), without bias correction."""

    def init(params: Any) -> BertAdamState:
        return BertAdamState(m=jax.tree.map(jnp.zeros_like, params), v=jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: BertAdamState, params: Any = None) -> tuple[Any, BertAdamState]:
        del params
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, grads)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), BertAdamState(m, v)

    return optax.GradientTransformation(init, update)


def scale_by_trust_ratio(weight_decay: float) -> optax.GradientTransformation:
    """Returns LAMB's layer-wise factor |p| / |update|, one for each matrix of a stack.

    It is 1 for a matrix that has had no gradient, such as NSP's before the first pairs. There the update is the decay
    alone, and the factor would make the step rate x p: the matrix would soon be 0.

    weight_decay: with which the decay was added to the updates
    """

    def scale(update: jax.Array, p: jax.Array) -> jax.Array:
        p_length, length = (jnp.sqrt(jnp.sum(x * x, axis=(-2, -1), keepdims=True)) for x in (p, update))
        is_decay_alone = jnp.all(update == weight_decay * p, axis=(-2, -1), keepdims=True)
        has_no_factor = is_decay_alone | (p_length == 0) | (length == 0)
        return update * jnp.where(has_no_factor, 1.0, p_length / jnp.where(length == 0, 1.0, length))

    return optax.stateless(lambda updates, params: jax.tree.map(scale, updates, params))


def is_decayed(params: Any) -> Any:
    """Returns a tree of booleans: true for matrices and embeddings, false for every bias and every norm's scale."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)
