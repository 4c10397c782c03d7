"""How good a fine-tuned model is: its outputs for each split, the scores of the judged ones, its answers on disk."""

import contextlib
import json
import statistics

import jax
import numpy as np

from bert_tpu.core import command, progress, storage
from bert_tpu.data import task_batches
from bert_tpu.distributed import mesh
from bert_tpu.finetune import heads
from bert_tpu.tasks import metrics as task_scores

SCORES = "scores.json"
PREDICTIONS = "predictions"


def outputs(programs, on, params, opened_feed, rows, *, of_tokens, shown=None) -> np.ndarray:
    """What the head of each seed says of `rows`, as tasks.task.Task has outputs, with seeds in front.

    shown: a bar over the rows that are answered.
    """
    found, share = None, {"hosts": jax.process_count(), "host": jax.process_index()}
    for examples, tokens, batch in opened_feed.evaluation_batches(rows, **share):
        said = np.asarray(
            programs.evaluate[opened_feed.seq_len](params, mesh.put_batch(batch, on))
        )  # [seeds, rows, ..., C]
        if found is None:
            number = rows.starts[-1] if of_tokens else len(rows.lengths)
            found = np.empty((len(said), number, said.shape[-1]), np.float32)
        numbers = tokens if of_tokens else examples
        there = numbers != task_batches.EMPTY
        found[:, numbers[there]] = said[:, there]
        if shown is not None:
            shown.update(np.count_nonzero(examples != task_batches.EMPTY))
    return found


def evaluate(opened, directory, programs, on, state, books, finished):
    """Scores the judged splits; after the last step also writes them, and the answers to all splits but "train"."""
    task, cfg, of_tokens = opened.task, opened.cfg, opened.tuned.head in heads.OF_TOKENS
    is_last = finished == cfg.num_steps
    writes, folder = is_last and jax.process_index() == 0, directory / PREDICTIONS
    scores, draws, majority = {seed: {} for seed in cfg.seeds}, {}, {}
    for split in task.splits:
        is_judged = split in task.judged
        if split == "train" or not (is_judged or is_last):
            continue
        with _bar(books, split, task.splits[split]) if writes and not is_judged else contextlib.nullcontext() as shown:
            each = outputs(
                programs, on, state.params, opened.feed, task.splits[split], of_tokens=of_tokens, shown=shown
            )
        _check_finite(cfg.seeds, split, each)
        if is_judged:
            for seed, said in zip(cfg.seeds, each, strict=True):
                scores[seed][split] = task.score(split, said)
            majority[split] = commonest(task, split)
            books.scores(finished, split, {seed: scores[seed][split] for seed in cfg.seeds}, majority[split])
        if writes:
            _write(task, cfg.seeds, split, each, folder)
        if writes and is_judged:
            draws[split] = task.draws(split, each)
    if writes:
        content = {
            "task": task.name, "step": finished, "seeds": scores, "summary": summary(scores, draws),
            "commonest_class": majority,
        }  # fmt: skip
        storage.write_text(directory / SCORES, json.dumps(content, indent=1) + "\n")


def _bar(books, split, rows):
    """A bar for a split that has no scores to tell of its end."""
    books.say(f"answers to {split} ...")
    return progress.bar(len(rows.lengths), split, "row")


def _check_finite(seeds, split, each):
    for seed, said in zip(seeds, each, strict=True):
        if not np.isfinite(said).all():
            raise command.UserError(
                f"of seed {seed} not all answers to {split} are finite numbers: its training diverged, which a lower "
                "optim.learning_rate in a new --workdir often mends"
            )


def commonest(task, split) -> dict[str, float]:
    """The scores of an answer that is always the class commonest in training; {} where answers are no classes."""
    if task.head != "classify":
        return {}
    counts = np.bincount(task.splits["train"].labels, minlength=len(task.labels))
    said = np.tile(counts == counts.max(), (len(task.splits[split].lengths), 1)).astype(np.float32)
    return task.score(split, said)


def _write(task, seeds, split, each, folder):
    """`folder` has SPLIT.npy, the outputs with seeds in front, and for each seed seedN/, the answers as files."""
    for seed, said in zip(seeds, each, strict=True):
        of_seed = folder / f"seed{seed}"
        of_seed.mkdir(parents=True, exist_ok=True)
        task.write(split, said, of_seed)
    with (folder / f"{split}.npy").open("wb") as file:
        np.save(file, each)


def summary(scores, draws) -> dict[str, dict[str, dict]]:
    """Split -> metric -> mean, standard deviation (of a sample; 0 of one) and best over the seeds.

    Where the task has draws of its rows, also `interval`: between what 95% of the draws of the mean lie.
    """
    found = {}
    for split, metrics in next(iter(scores.values())).items():
        found[split] = {name: _spread([each[split][name] for each in scores.values()]) for name in metrics}
        for name, drawn in draws.get(split, {}).items():
            found[split][name]["interval"] = task_scores.interval(drawn.mean(axis=1))
    return found


def _spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": deviation, "best": max(values)}
