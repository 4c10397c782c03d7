"""Loads the fine-tuned model of one seed from a workdir."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
import jax
import numpy as np

from bert_tpu.core import command
from bert_tpu.finetune import heads
from bert_tpu.huggingface import pretrained
from bert_tpu.model import param_layout, transformer
from bert_tpu.monitoring import scores_file
from bert_tpu.training import saved_params, workdir

Scores = dict[str, dict[str, float]]  # split -> metric -> score


class Finetuned(NamedTuple):
    """The model of one seed, at the newest sound checkpoint."""

    model: heads.Model
    section: dict[str, Any]  # the `model` section of a config for its encoder
    params: dict[str, Any]  # as param_layout.pack returns them
    labels: tuple[str, ...]
    checkpoint: epath.Path
    seed: int
    reason: str  # why this seed was chosen
    scores: Scores  # empty if the run did not evaluate that checkpoint


def load(directory: Path | str, config: dict[str, Any], seed: int | None = None, step: int | None = None) -> Finetuned:
    """Returns the model of one seed in float32. Raises UserError for a seed that was not trained.

    directory: the workdir
    config: its config.json
    seed: None for the seed with the best score (the first metric on the first scored split), or the first seed if
        nothing was scored
    step: of the checkpoint; None for the newest sound one
    """
    seeds, task = config["seeds"], config["task"]
    if seed is not None and seed not in seeds:
        raise command.UserError(f"{directory} has no seed {seed}: give one of {', '.join(map(str, seeds))}")
    section = workdir.model_section(config) | {"dtype": "float32"}
    model = heads.Model(transformer.Bert(**section, parent=None), task["head"], len(task["labels"]))
    path = saved_params.find(directory, step)
    scores = _scores(Path(directory), path)
    seed, reason = choose_seed(seeds, scores) if seed is None else (seed, "as asked for")
    shapes = jax.eval_shape(lambda: param_layout.pack(heads.init(model, jax.random.key(0))))
    of_seeds = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(seeds), *x.shape), x.dtype), shapes)
    stacked = saved_params.load_params(path, pretrained.on_device(of_seeds))
    params = jax.tree.map(lambda x: np.asarray(x[seeds.index(seed)]), stacked)
    return Finetuned(model, section, params, tuple(task["labels"]), path, seed, reason, scores.get(str(seed), {}))


def _scores(directory: Path, path: epath.Path) -> dict[str, Scores]:
    """Returns seed -> scores of the checkpoint `path`; {} if the run has not scored that one."""
    content = scores_file.read(directory)
    return content["seeds"] if content and path.name == str(content["step"]) else {}


def choose_seed(seeds: list[int], scores: dict[str, Scores]) -> tuple[int, str]:
    """Returns the best seed and the reason, a phrase. `scores` maps a seed, as text, to its scores."""
    if len(seeds) == 1:
        return seeds[0], "the only one"
    if not all(scores.get(str(seed)) for seed in seeds):
        return seeds[0], f"the first of {len(seeds)}, as none was judged at this step"
    split, first = next(iter(scores[str(seeds[0])].items()))
    metric = next(iter(first))
    values = {seed: next(iter(scores[str(seed)].values()))[metric] for seed in seeds}
    best = max(seeds, key=lambda seed: -math.inf if math.isnan(values[seed]) else values[seed])
    return best, f"the best of {len(seeds)} by {metric} on {split}, {values[best]:.4g}"
