"""Optimizers and learning-rate schedules; `make(**cfg.optim)` is the whole interface."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_tpu.core import command


class Optimizer(NamedTuple):
    """An update rule and the learning rate, apart: a step moves the parameters by -rate(step) x the rule's update.

    So a step that is skipped, which the rule does not count, does not shift the schedule, and the rate that a log
    prints is the one that acts.
    """

    rule: optax.GradientTransformation
    rate: Callable[[Any], Any]  # step, the first being 0 -> learning rate


class WarmUp(NamedTuple):
    """The config's key that sets the warm-up, its value, and how many steps that is."""

    key: str
    value: int | float
    steps: int


def make(*, name, learning_rate, schedule, warmup_steps, num_steps, b1, b2, eps, weight_decay, clip_norm) -> Optimizer:
    """Returns the Optimizer of a config's section: clipping by global norm, then `name`; and the schedule.

    name: "bert_adamw" (optimization.py of google-research/bert: no bias correction, eps outside the root,
    decoupled decay), "adamw" (Loshchilov & Hutter 2019, bias-corrected), "lamb" (You et al. 2020).
    Norms and biases are never decayed. `clip_norm` 0 turns clipping off. Raises UserError for a name that is none
    and for moments that never end.
    """
    for key, share in (("b1", b1), ("b2", b2)):
        if not 0 <= share < 1:
            raise command.UserError(f"optim.{key} is {share}: give a share from 0 to below 1")
    decay = optax.add_decayed_weights(weight_decay, mask=is_decayed)
    rules = {
        "bert_adamw": (scale_by_bert_adam(b1, b2, eps), decay),
        "adamw": (optax.scale_by_adam(b1, b2, eps), decay),
        # The trust ratio is for what is decayed; norms and biases take Adam's step (the authors' exclude list).
        "lamb": (optax.scale_by_adam(b1, b2, eps), decay, optax.masked(scale_by_trust_ratio(), is_decayed)),
    }
    if name not in rules:
        raise command.UserError(f"optim.name {name!r} is none of {', '.join(rules)}")
    clip = (optax.clip_by_global_norm(clip_norm),) if clip_norm else ()
    rate = make_schedule(schedule, learning_rate=learning_rate, warmup_steps=warmup_steps, num_steps=num_steps)
    return Optimizer(optax.chain(*clip, *rules[name]), rate)


def make_schedule(schedule, *, learning_rate, warmup_steps, num_steps):
    """Function step -> rate, the first update being step 0.

    "bert_linear" decays linearly over all steps from step 0 and the warm-up overrides it while it lasts, so the
    rate falls from the peak by the share warmup/num at its end (optimization.py); "linear" and "cosine" decay over
    what warm-up leaves; "constant" stays.
    """
    ramp = optax.linear_schedule(0.0, learning_rate, max(warmup_steps, 1))
    rest = max(num_steps - warmup_steps, 1)
    after = {
        "bert_linear": lambda step: learning_rate * (1.0 - jnp.minimum(step + warmup_steps, num_steps) / num_steps),
        "linear": optax.linear_schedule(learning_rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(learning_rate, rest),
        "constant": optax.constant_schedule(learning_rate),
    }
    if schedule not in after:
        raise command.UserError(f"optim.schedule {schedule!r} is none of {', '.join(after)}")
    return optax.join_schedules([ramp, after[schedule]], [warmup_steps])


def unreached_peak(rate, peak, warmup, num_steps) -> str:
    """Returns a sentence where the WarmUp `warmup` lasts as long as the run, so that `peak` is never reached; else "".

    rate: as `make` returns it. peak: optim.learning_rate.
    """
    if warmup.steps < num_steps or not peak:
        return ""
    return (
        f"{warmup.key} is {warmup.value:,} and num_steps {num_steps:,}: the learning rate rises to "
        f"{float(rate(num_steps - 1)):.3g} at the last step and never reaches optim.learning_rate, {peak:.3g}; give a "
        f"lower {warmup.key}"
    )


class BertAdamState(NamedTuple):
    """Running first and second moments, each shaped as the parameters."""

    m: Any
    v: Any


def scale_by_bert_adam(b1, b2, eps) -> optax.GradientTransformation:
    """Adam as BERT's authors wrote it: m / (sqrt(v) + eps), without bias correction."""

    def init(params):
        return BertAdamState(m=jax.tree.map(jnp.zeros_like, params), v=jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None):
        del params
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, grads)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), BertAdamState(m, v)

    return optax.GradientTransformation(init, update)


def scale_by_trust_ratio() -> optax.GradientTransformation:
    """LAMB's layer-wise factor |p| / |update|, for each matrix of a stack its own; 1 where either is zero."""

    def scale(update, p):
        p_length, length = (jnp.sqrt(jnp.sum(x * x, axis=(-2, -1), keepdims=True)) for x in (p, update))
        return update * jnp.where((p_length == 0) | (length == 0), 1.0, p_length / jnp.where(length == 0, 1.0, length))

    return optax.stateless(lambda updates, params: jax.tree.map(scale, updates, params))


def is_decayed(params):
    """Tree of booleans: true for matrices and embeddings, false for every bias and every norm's scale."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)
