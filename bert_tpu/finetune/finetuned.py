"""A fine-tuned model as its workdir holds it: one seed's."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
import jax
import numpy as np

from bert_tpu.core import command
from bert_tpu.finetune import evaluation, heads
from bert_tpu.huggingface import pretrained
from bert_tpu.model import param_layout, transformer
from bert_tpu.training import checkpoint


class Finetuned(NamedTuple):
    """A seed's model at the newest sound checkpoint."""

    model: heads.Model
    section: dict[str, Any]  # the `model` section of a config for its encoder
    params: dict[str, Any]  # as layout.pack has them
    labels: tuple[str, ...]
    checkpoint: epath.Path
    seed: int
    reason: str  # for which it is this seed
    scores: dict[str, dict[str, float]]  # judged split -> name -> score; of none, where that checkpoint was not judged


def load(directory, config, seed=None) -> Finetuned:
    """The model of `seed` in the workdir `directory`, whose config.json is `config`; float32.

    Without a seed, the best by the first score of the first judged split; where nothing was judged, the first. Raises
    UserError for a seed that was not trained.
    """
    seeds, task = config["seeds"], config["task"]
    if seed is not None and seed not in seeds:
        raise command.UserError(f"{directory} has no seed {seed}: give one of {', '.join(map(str, seeds))}")
    section = config["bert"] | config["model"] | {"dtype": "float32"}
    tuned = heads.Model(transformer.Bert(**section, parent=None), task["head"], len(task["labels"]))
    found = checkpoint.find(directory)
    scores = _scores(Path(directory), found)
    seed, reason = choose(seeds, scores) if seed is None else (seed, "as asked for")
    shapes = jax.eval_shape(lambda: param_layout.pack(heads.init(tuned, jax.random.key(0))))
    several = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(seeds), *x.shape), x.dtype), shapes)
    stacked = checkpoint.load_params(found, pretrained.here(several))
    params = jax.tree.map(lambda x: np.asarray(x[seeds.index(seed)]), stacked)
    return Finetuned(tuned, section, params, tuple(task["labels"]), found, seed, reason, scores.get(str(seed), {}))


def _scores(directory, found):
    """Seed -> split -> name -> score of the checkpoint `found`; empty where the run has not judged that one."""
    path = directory / evaluation.SCORES
    if not path.exists():
        return {}
    held = json.loads(path.read_text())
    return held["seeds"] if found.name == str(held["step"]) else {}


def choose(seeds, scores):
    """(the seed that is best, why it is)."""
    if len(seeds) == 1:
        return seeds[0], "the only one"
    firsts = {seed: next(iter(scores.get(str(seed), {}).items()), None) for seed in seeds}
    if None in firsts.values():
        return seeds[0], f"the first of {len(seeds)}, as none was judged at this step"
    split, first = firsts[seeds[0]]
    name = next(iter(first))
    of_seed = {seed: judged[name] for seed, (_, judged) in firsts.items()}
    best = max(seeds, key=lambda seed: -math.inf if math.isnan(of_seed[seed]) else of_seed[seed])
    return best, f"the best of {len(seeds)} by {name} on {split}, {of_seed[best]:.4g}"
