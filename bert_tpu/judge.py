"""How good a fine-tuned model is: its outputs for each split, the scores of the judged ones, its answers on disk."""

import json
import statistics

import jax
import numpy as np

from bert_tpu import feed, mesh, workdir

SCORES = "scores.json"
PREDICTIONS = "predictions"


def shapes(splits, batch_size, seq_lens) -> dict[int, dict[str, tuple[int, ...]]]:
    """Sequence length -> shapes of a global batch, for the lengths that batches of these splits have."""
    found = {}
    for rows in splits:
        found |= feed.shapes_in_order(rows, batch_size=batch_size, seq_lens=seq_lens)
    return found


def outputs(programs, on, params, rows, *, batch_size, seq_lens) -> np.ndarray:
    """What the head of each seed says of `rows`, as tasks.task.Task has outputs, with seeds in front."""
    found, host = None, {"hosts": jax.process_count(), "host": jax.process_index()}
    for seq_len, numbers, batch in feed.in_order(rows, batch_size=batch_size, seq_lens=seq_lens, **host):
        said = np.asarray(programs.evaluate[seq_len](params, mesh.put(batch, on)))  # [seeds, rows, (tokens,) classes]
        by_token, there = said.ndim == 4, numbers != feed.NOBODY
        if found is None:
            found = np.empty(
                (len(said), rows.starts[-1] if by_token else len(rows.lengths), said.shape[-1]), np.float32
            )
        if not by_token:
            found[:, numbers[there]] = said[:, there]
            continue
        for place in np.flatnonzero(there):
            start, end = rows.starts[numbers[place]], rows.starts[numbers[place] + 1]
            found[:, start:end] = said[:, place, : end - start]
    return found


def evaluate(task, cfg, directory, programs, on, state, books, finished):
    """Scores the judged splits; after the last step also writes them, and the answers to all splits but "train"."""
    given = {"batch_size": cfg.batch_size, "seq_lens": cfg.seq_lens}
    scores = {seed: {} for seed in cfg.seeds}
    for split in task.splits:
        is_judged, is_last = split in task.judged, finished == cfg.num_steps
        if split == "train" or not (is_judged or is_last):
            continue
        each = outputs(programs, on, state.params, task.splits[split], **given)
        for seed, said in zip(cfg.seeds, each, strict=True):
            if is_judged:
                scores[seed][split] = task.score(split, said)
            if is_last and jax.process_index() == 0:
                folder = directory / PREDICTIONS / f"seed{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                task.write(split, said, folder)
        if is_judged:
            books.scores(finished, split, {seed: scores[seed][split] for seed in cfg.seeds})
    if finished == cfg.num_steps and jax.process_index() == 0:
        content = {"task": task.name, "step": finished, "seeds": scores, "summary": summary(scores)}
        workdir.write_atomically(directory / SCORES, json.dumps(content, indent=1) + "\n")


def summary(scores) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> metric -> mean, standard deviation (of a sample; 0 of one) and best over the seeds."""
    splits = next(iter(scores.values()))
    return {
        split: {name: _spread([each[split][name] for each in scores.values()]) for name in splits[split]}
        for split in splits
    }


def _spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": deviation, "best": max(values)}
