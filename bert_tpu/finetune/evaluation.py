"""Evaluates fine-tuned models: outputs for each split, scores of the labelled ones, and predictions on disk."""

from collections.abc import Iterable, Mapping
import contextlib
import json
from pathlib import Path
import statistics
from typing import Any

from etils import epath
import jax
import ml_collections
import numpy as np
import tqdm

from bert_tpu.core import command, progress, storage
from bert_tpu.data import task_batches, token_rows
from bert_tpu.distributed import mesh as meshes
from bert_tpu.finetune import heads
from bert_tpu.monitoring import log, scores_file
from bert_tpu.tasks import metrics
from bert_tpu.tasks.task import Task
from bert_tpu.training import jobs, train_step

PREDICTIONS = "predictions"


def outputs(
    programs: train_step.Programs,
    mesh: jax.sharding.Mesh,
    params: jobs.Params,
    feed: task_batches.TaskBatches,
    rows: token_rows.Rows,
    *,
    of_tokens: bool,
    bar: tqdm.tqdm | None = None,
) -> np.ndarray:
    """Returns the head's outputs for `rows`: float32 [seeds, rows or tokens, C], as described in tasks.task.Task.

    programs: `evaluate` returns the head's outputs
    params: those of all seeds, on `mesh`
    feed: turns `rows` into batches
    of_tokens: whether the head has an output for each token, not for each row
    bar: counts finished rows, if it is not None
    """
    values, host = None, {"hosts": jax.process_count(), "host": jax.process_index()}
    for examples, tokens, batch in feed.evaluation_batches(rows, **host):
        outputs_SBC = np.asarray(programs.evaluate[feed.seq_len](params, meshes.put_batch(batch, mesh)))
        if values is None:
            count = rows.starts[-1] if of_tokens else len(rows.lengths)
            values = np.empty((len(outputs_SBC), count, outputs_SBC.shape[-1]), np.float32)
        numbers = tokens if of_tokens else examples
        is_real = numbers != task_batches.EMPTY
        values[:, numbers[is_real]] = outputs_SBC[:, is_real]
        if bar is not None:
            bar.update(np.count_nonzero(examples != task_batches.EMPTY))
    assert values is not None, "a split has rows"
    return values


def evaluate(
    cfg: ml_collections.ConfigDict,
    task: Task,
    feed: task_batches.TaskBatches,
    directory: epath.Path,
    programs: train_step.Programs,
    mesh: jax.sharding.Mesh,
    state: jobs.State,
    run_log: log.Log,
    finished: int,
) -> None:
    """Scores the labelled splits. After the last step also writes scores, and predictions for all splits but "train".

    cfg, task, feed: as in finetuning.Setup
    directory: the workdir
    finished: number of finished steps
    """
    is_last = finished == cfg.num_steps
    writes, folder = is_last and jax.process_index() == 0, directory / PREDICTIONS
    scores: dict[int, dict[str, dict[str, float]]] = {seed: {} for seed in cfg.seeds}
    draws: dict[str, dict[str, np.ndarray]] = {}
    majority: dict[str, dict[str, float]] = {}
    for split, rows in task.splits.items():
        is_labelled = split in task.eval_splits
        if split == "train" or not (is_labelled or is_last):
            continue
        with _bar(run_log, split, rows) if writes and not is_labelled else contextlib.nullcontext() as bar:
            by_seed = outputs(
                programs, mesh, state.params, feed, rows, of_tokens=task.head in heads.TOKEN_HEADS, bar=bar
            )  # fmt: skip
        _check_finite(cfg.seeds, split, by_seed)
        if is_labelled:
            for seed, values in zip(cfg.seeds, by_seed, strict=True):
                scores[seed][split] = task.score(split, values)
            majority[split] = majority_scores(task, split)
            run_log.scores(finished, split, {seed: scores[seed][split] for seed in cfg.seeds}, majority[split])
        if writes:
            _write(task, cfg.seeds, split, by_seed, folder)
        if writes and is_labelled:
            draws[split] = task.bootstrap(split, by_seed)
    if writes:
        content = {
            "task": task.name, "step": finished, "seeds": scores, "summary": summary(scores, draws),
            "commonest_class": majority,
        }  # fmt: skip
        storage.write_text(directory / scores_file.FILE, json.dumps(content, indent=1) + "\n")


def _bar(run_log: log.Log, split: str, rows: token_rows.Rows) -> tqdm.tqdm:
    """Returns a progress bar for a split without scores, whose end no other line reports."""
    run_log.say(f"predicting {split} ...")
    return progress.bar(len(rows.lengths), split, "row")


def _check_finite(seeds: Iterable[int], split: str, by_seed: np.ndarray) -> None:
    for seed, values in zip(seeds, by_seed, strict=True):
        if not np.isfinite(values).all():
            raise command.UserError(
                f"seed {seed} has outputs for {split} that are not finite numbers: its training diverged, which a "
                "lower optim.learning_rate in a new --workdir often fixes"
            )


def majority_scores(task: Task, split: str) -> dict[str, float]:
    """Scores of always predicting the commonest class of the training split; {} if predictions are not classes."""
    if task.head != "classify":
        return {}
    counts = np.bincount(task.splits["train"].labels, minlength=len(task.labels))
    outputs_C = (counts == counts.max()).astype(np.float32)
    return task.score(split, np.broadcast_to(outputs_C, (len(task.splits[split].lengths), len(counts))))


def _write(task: Task, seeds: Iterable[int], split: str, by_seed: np.ndarray, folder: Path) -> None:
    """Writes SPLIT.npy, the outputs with seeds first, and seedN/ of each seed, its predictions in the task's format."""
    for seed, values in zip(seeds, by_seed, strict=True):
        path = folder / f"seed{seed}"
        path.mkdir(parents=True, exist_ok=True)
        task.write(split, values, path)
    with (folder / f"{split}.npy").open("wb") as file:
        np.save(file, by_seed)


def summary(
    scores: Mapping[int, dict[str, dict[str, float]]], draws: Mapping[str, dict[str, np.ndarray]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns split -> metric -> {mean, std, best} over the seeds. `std` is a sample's; it is 0 with one seed.

    A metric in `draws` also has `interval`, which holds 95% of the bootstrap draws of the mean.

    scores: seed -> split -> metric -> score
    draws: split -> metric -> bootstrap draws [draws, seeds]
    """
    summaries: dict[str, dict[str, dict[str, Any]]] = {}
    for split, names in next(iter(scores.values())).items():
        summaries[split] = {name: _spread([by_split[split][name] for by_split in scores.values()]) for name in names}
        for name, drawn in draws.get(split, {}).items():
            summaries[split][name]["interval"] = metrics.interval(drawn.mean(axis=1))
    return summaries


def _spread(values: list[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": deviation, "best": max(values)}
