"""Repeats fine-tunings of GLUE with transformers on PyTorch and prints both scores.

bert-tpu compare-transformers W/rte W/mrpc ...

W/rte is the workdir of a finished fine-tuning of a Hugging Face directory. transformers tokenizes the same texts and
trains BertForSequenceClassification from the same weights and new heads, on the same rows in the same order, at the
same rates. Only dropout, if there is any, draws other numbers. The scores of each finished seed are saved in
W/rte/transformers.json. A run that was stopped goes on with the next seed.
"""

from collections.abc import Iterable, Iterator
import json
import math
import pathlib
import statistics
from typing import TYPE_CHECKING, Any

from bert_tpu.core import command

with command.imports():
    import jax
    import ml_collections
    import numpy as np

    from bert_tpu.core import config as configs
    from bert_tpu.core import json_files, progress, storage
    from bert_tpu.data import task_batches
    from bert_tpu.finetune import finetuning
    from bert_tpu.huggingface import hf
    from bert_tpu.monitoring import scores_file
    from bert_tpu.tasks import glue
    from bert_tpu.training import workdir

if TYPE_CHECKING:
    import torch

SAVED = "transformers.json"
CONFIG = {"reader": str, "init_from": str, "seeds": [int], "data": {"task": str, "dir": str}}


def main() -> None:
    """Trains the seeds that are not saved yet and prints the table."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "workdirs", nargs="+", type=pathlib.Path, metavar="WORKDIR", help="workdirs of fine-tunings of GLUE"
    )
    args = parser.parse_args()
    command.require("the comparison", "torch", "transformers", extra="onnx")
    lines = [line for directory in args.workdirs for line in _lines(directory)]
    print("| task | split | score | bert_tpu | transformers | difference | in standard errors |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))


def _lines(directory: pathlib.Path) -> Iterator[str]:
    """Yields the table's rows for a workdir. Raises UserError if it is not a finished fine-tuning of GLUE."""
    config, ours = workdir.read_config(directory), scores_file.read(directory).get("seeds")
    if config.get("reader") != "glue" or not ours:
        raise command.UserError(f"{directory} is not a finished fine-tuning of GLUE: finish it, or give another")
    misfit = json_files.misfit(config, CONFIG)
    if misfit or set(ours) != set(map(str, config["seeds"])):
        raise command.UserError(
            f"{directory}/config.json is damaged or belongs to other scores ({misfit or 'seeds'}): restore it"
        )
    if not hf.is_directory_of(config["init_from"]):
        raise command.UserError(
            f"{directory} started from {config['init_from']}, which is not a Hugging Face directory: export it"
        )
    theirs = json_files.read_if_any(directory / SAVED, {str: scores_file.BY_METRIC})
    if ours.keys() - theirs.keys():
        setup = _load(config, directory)
        for place, seed in enumerate(config["seeds"]):
            if str(seed) not in theirs:
                theirs[str(seed)] = _train(setup, place, f"{directory.name}, seed {seed}")
                storage.write_text(directory / SAVED, json.dumps(theirs, indent=1) + "\n")
    splits = theirs[next(iter(ours))]
    names = _names(splits)
    if not all(_names(theirs[seed]) == names <= _names(ours[seed]) for seed in ours):
        raise command.UserError(f"{directory}/{SAVED} has other scores than scores.json: delete it to train again")
    for split, scores in splits.items():
        for name in scores:
            a, b = ([scores_of[seed][split][name] for seed in ours] for scores_of in (ours, theirs))
            yield f"| {directory.name} | {split} | {name} | {_cells(a, b)} |"


def _names(by_split: dict[str, dict[str, float]]) -> set[tuple[str, str]]:
    """Returns (split, metric) of each score."""
    return {(split, name) for split, scores in by_split.items() for name in scores}


def _load(config: dict[str, Any], directory: pathlib.Path) -> finetuning.Setup:
    """Loads a fine-tuning again. Raises UserError if a key of its config is missing or of another type."""
    try:
        return finetuning.load(_without_facts(config))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise command.UserError(f"{directory}/config.json is damaged ({error!r:.200}): restore it") from None


def _without_facts(config: dict[str, Any]) -> ml_collections.ConfigDict:
    """Returns the config of a workdir without the facts that a run adds to it."""
    facts = ("task", "bert", "start")
    return ml_collections.ConfigDict(
        {k: tuple(v) if isinstance(v, list) else v for k, v in configs.current(config).items() if k not in facts}
    )


def _mean_and_error(scores: list[float]) -> tuple[float, float]:
    """Returns the mean and its standard error; NaN for both if a score is not finite."""
    if not all(map(math.isfinite, scores)):
        return math.nan, math.nan
    return statistics.fmean(scores), statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0


def _cells(a: list[float], b: list[float]) -> str:
    """Both means with their standard errors over seeds, their difference, and the difference in standard errors."""
    means, errors = zip(*map(_mean_and_error, (a, b)), strict=True)
    difference, error = means[0] - means[1], (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    cells = [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(means, errors, strict=True)]
    return " | ".join([*cells, f"{difference:+.4f}", f"{difference / error:+.2f}" if error else "-"])


def _train(setup: finetuning.Setup, place: int, title: str) -> dict[str, dict[str, float]]:
    """Trains one seed with transformers and returns its scores for each judged split.

    setup: our fine-tuning.
    place: of the seed in the config's `seeds`.
    title: of the progress bar.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cfg, task = setup.cfg, setup.task
    model = _model(setup, cfg.seeds[place])
    tokenizer = transformers.AutoTokenizer.from_pretrained(cfg.init_from)
    tables = glue.read_splits(cfg.data.task, cfg.data.dir, [cfg.data.dir])
    optimizer, schedule = _optimizer(cfg, model)

    def encode(split: str, numbers: Iterable[int]) -> transformers.BatchEncoding:
        sides = [[side[i] for i in numbers] for side in tables[split].texts]
        return tokenizer(*sides, padding="longest", truncation=True, max_length=cfg.max_length, return_tensors="pt")

    model.train()
    with progress.bar(cfg.num_steps, title, "step") as bar:
        for order in setup.feed.order[:, place]:
            numbers = order[order != task_batches.EMPTY]
            labels = torch.from_numpy(task.splits["train"].labels[numbers])
            labels = labels if task.head == "regress" else labels.long()
            model(**encode("train", numbers), labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.optim.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            bar.update()
    model.eval()
    scores = {}
    for split in task.eval_splits:
        if split not in tables:
            continue  # GLUE's diagnostics, which belong to another task
        number = len(task.splits[split].lengths)
        with torch.no_grad():
            logits = [model(**encode(split, range(i, min(i + 64, number)))).logits for i in range(0, number, 64)]
        scores[split] = task.score(split, torch.cat(logits).numpy())
    return scores


def _model(setup: finetuning.Setup, seed: int) -> "torch.nn.Module":
    """Returns transformers' model of the same weights, with our seed's new head, and pooler if the model has none."""
    import torch
    import transformers

    cfg, ours = setup.cfg, jax.device_get(finetuning.first_params(setup, seed))
    torch.manual_seed(seed)  # for dropout
    model = transformers.BertForSequenceClassification.from_pretrained(
        cfg.init_from, num_labels=setup.model.classes, hidden_dropout_prob=cfg.model.dropout,
        attention_probs_dropout_prob=cfg.model.attention_dropout, classifier_dropout=cfg.model.dropout,
        problem_type="regression" if setup.task.head == "regress" else "single_label_classification",
    ).float()  # fmt: skip
    with torch.no_grad():
        for theirs, name in ((model.classifier, "head"), (model.bert.pooler.dense, "pooler")):
            theirs.weight.copy_(torch.from_numpy(np.array(ours[name]["kernel"].T)))
            theirs.bias.copy_(torch.from_numpy(np.array(ours[name]["bias"])))
    return model


def _optimizer(cfg: ml_collections.ConfigDict, model: "torch.nn.Module") -> tuple[Any, Any]:
    """Returns AdamW and its schedule, like the names "adamw" and "linear" of training.optim. UserError for others."""
    import torch
    import transformers

    o = cfg.optim
    if (o.name, o.schedule) != ("adamw", "linear") or not o.clip_norm:
        raise command.UserError(
            "only adamw with the linear schedule and clip_norm can be repeated; fine-tune with those"
        )
    whole = {name: p for name, p in model.named_parameters() if not name.endswith("bias") and "LayerNorm" not in name}
    rest = [p for name, p in model.named_parameters() if name not in whole]
    groups = [{"params": list(whole.values()), "weight_decay": o.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=o.learning_rate, betas=(o.b1, o.b2), eps=o.eps)
    warmup_steps = round(cfg.warmup * cfg.num_steps)
    return optimizer, transformers.get_linear_schedule_with_warmup(optimizer, warmup_steps, cfg.num_steps)


if __name__ == "__main__":
    command.run(main)
