"""Fine-tunings of GLUE done again by transformers on PyTorch, and both scores side by side.

python -m tools.compare_transformers W/rte W/mrpc ...

W/rte: a finished fine-tuning from a Hugging Face directory. transformers tokenizes the same texts itself and trains
BertForSequenceClassification from the same weights and fresh heads, on the same rows in the same order, at the same
rates; dropout alone, if there is any, draws its own. What it scores is kept in W/rte/transformers.json, a seed at a
time, so that a run that was stopped goes on with the next one.
"""

import argparse
import json
import pathlib
import statistics

import jax
import ml_collections
import numpy as np

from bert_tpu.core import command, progress, storage
from bert_tpu.data import task_batches
from bert_tpu.finetune import finetuning
from bert_tpu.huggingface import pretrained
from bert_tpu.tasks import glue
from bert_tpu.training import workdir

KEPT = "transformers.json"


def main():
    """Trains what is not kept yet and prints the table."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path, metavar="WORKDIR")
    args = parser.parse_args()
    lines = [line for directory in args.workdirs for line in _lines(directory)]
    print("| task | split | score | bert_tpu | transformers | difference | in standard errors |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))


def _lines(directory):
    """The rows of the table that a workdir makes; UserError for one that is no finished fine-tuning of GLUE."""
    held, path = workdir.read_config(directory), directory / "scores.json"
    if held.get("reader") != "glue" or not path.exists():
        raise command.UserError(f"{directory} is no finished fine-tuning of GLUE: finish it, or give another")
    if not pretrained.is_hugging_face(held["init_from"]):
        raise command.UserError(f"{directory} started from {held['init_from']}, no Hugging Face directory: export it")
    ours, theirs = json.loads(path.read_text())["seeds"], {}
    if (directory / KEPT).exists():
        theirs = json.loads((directory / KEPT).read_text())
    if len(theirs) < len(ours):
        opened = finetuning.open(_config(held))
        for place, seed in enumerate(held["seeds"]):
            if str(seed) not in theirs:
                theirs[str(seed)] = _train(opened, place, f"{directory.name}, seed {seed}")
                storage.write_text(directory / KEPT, json.dumps(theirs, indent=1) + "\n")
    for split, scores in next(iter(theirs.values())).items():
        for name in scores:
            a, b = ([of[seed][split][name] for seed in ours] for of in (ours, theirs))
            yield f"| {directory.name} | {split} | {name} | {_cells(a, b)} |"


def _config(held):
    """The config of a workdir, without the facts that a run adds to it."""
    facts = ("task", "bert")
    return ml_collections.ConfigDict(
        {k: tuple(v) if isinstance(v, list) else v for k, v in held.items() if k not in facts}
    )


def _cells(a, b):
    """Both means with their standard errors over seeds, and the difference also in standard errors of itself."""
    means = [statistics.fmean(x) for x in (a, b)]
    errors = [statistics.stdev(x) / len(x) ** 0.5 if len(x) > 1 else 0.0 for x in (a, b)]
    difference, error = means[0] - means[1], (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    each = [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(means, errors, strict=True)]
    return " | ".join([*each, f"{difference:+.4f}", f"{difference / error:+.2f}" if error else "-"])


def _train(opened, place, title):
    """The scores of each judged split, of the seed at this place, by transformers."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cfg, task = opened.cfg, opened.task
    model = _model(opened, cfg.seeds[place])
    tokenizer = transformers.AutoTokenizer.from_pretrained(cfg.init_from)
    tables = glue.tables(cfg.data.task, cfg.data.dir, [cfg.data.dir])
    optimizer, schedule = _optimizer(cfg, model)

    def encode(split, numbers):
        sides = [[side[i] for i in numbers] for side in tables[split].texts]
        return tokenizer(*sides, padding="longest", truncation=True, max_length=cfg.max_length, return_tensors="pt")

    model.train()
    with progress.bar(cfg.num_steps, title, "step") as shown:
        for order in opened.feed.order[:, place]:
            numbers = order[order != task_batches.EMPTY]
            labels = torch.from_numpy(task.splits["train"].labels[numbers])
            labels = labels if task.head == "regress" else labels.long()
            model(**encode("train", numbers), labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.optim.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            shown.update()
    model.eval()
    scores = {}
    for split in task.judged:
        if split not in tables:
            continue  # the diagnostics, which are another task's
        number = len(task.splits[split].lengths)
        with torch.no_grad():
            said = [model(**encode(split, range(i, min(i + 64, number)))).logits for i in range(0, number, 64)]
        scores[split] = task.score(split, torch.cat(said).numpy())
    return scores


def _model(opened, seed):
    """Their model of the same weights, with what our seed draws: the head, and a pooler where there was none."""
    import torch
    import transformers

    cfg, ours = opened.cfg, jax.device_get(finetuning.first_params(opened, seed))
    torch.manual_seed(seed)  # for dropout
    model = transformers.BertForSequenceClassification.from_pretrained(
        cfg.init_from, num_labels=opened.tuned.classes, hidden_dropout_prob=cfg.model.dropout,
        attention_probs_dropout_prob=cfg.model.attention_dropout, classifier_dropout=cfg.model.dropout,
        problem_type="regression" if opened.task.head == "regress" else "single_label_classification",
    ).float()  # fmt: skip
    with torch.no_grad():
        for theirs, name in ((model.classifier, "head"), (model.bert.pooler.dense, "pooler")):
            theirs.weight.copy_(torch.from_numpy(np.array(ours[name]["kernel"].T)))
            theirs.bias.copy_(torch.from_numpy(np.array(ours[name]["bias"])))
    return model


def _optimizer(cfg, model):
    """AdamW and its rate: optim.make's "adamw" and "linear". UserError for another."""
    import torch
    import transformers

    o = cfg.optim
    if (o.name, o.schedule) != ("adamw", "linear") or not o.clip_norm:
        raise command.UserError("only adamw with the linear schedule and clip_norm is done again; tune with those")
    whole = {name: p for name, p in model.named_parameters() if not name.endswith("bias") and "LayerNorm" not in name}
    rest = [p for name, p in model.named_parameters() if name not in whole]
    groups = [{"params": list(whole.values()), "weight_decay": o.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=o.learning_rate, betas=(o.b1, o.b2), eps=o.eps)
    warmup_steps = round(cfg.warmup * cfg.num_steps)
    return optimizer, transformers.get_linear_schedule_with_warmup(optimizer, warmup_steps, cfg.num_steps)


if __name__ == "__main__":
    command.run(main)
