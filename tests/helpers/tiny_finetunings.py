"""Fine-tuning runs of a few steps from the BERT of helpers.small_bert: one for each head."""

import json

from bert_tpu.core import config
from bert_tpu.finetune import finetuning
from helpers import small_bert, squad_files

SEEDS = (3, 1)
STEPS = 16
KEYS = {
    "seeds": SEEDS, "batch_size": 8, "num_steps": STEPS, "max_length": 48, "model.dtype": "float32",
    "optim.learning_rate": 1e-2, "log.every_steps": 1, "compile_cache": "",
}  # fmt: skip
TEXTS = (
    "the cat sat on the mat.", "a big red dog ran", "she and he ran under the tree", "it is small", "very blue house",
    "the dog was red", "he is very small.", "she sat",
)  # fmt: skip
PLACES = ("mat", "dog", "tree", "small")  # of TEXTS


def run(directory, head):
    """Runs SEEDS with the head and returns the workdir."""
    directory.mkdir(parents=True, exist_ok=True)
    model = small_bert.save(directory / "model")
    name, data = {"classify": classes, "regress": _numbers, "tag": _tags, "span": _spans}[head](directory)
    cfg = config.load(name)
    data = {f"data.{key}": value for key, value in data.items()}
    cfg.update_from_flattened_dict(KEYS | data | {"init_from": str(model)})
    assert finetuning.run(cfg, directory / "run") == 0
    return directory / "run"


def _table(directory, labels):
    path = directory / "rows.jsonl"
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(TEXTS, labels, strict=True)]
    path.write_text("\n".join(rows))
    return {"train": str(path), "validation": str(path)}


def classes(directory):
    """Returns the config for a table of three classes, and its keys of `data`."""
    return "configs/pairs.py", _table(directory, ["no", "yes", "yes", "peut-être", "no", "yes", "peut-être", "no"])


def _numbers(directory):
    return "configs/pairs.py:regress", _table(directory, ["1.5", "-2", "0.25", "3", "0", "1", "-0.5", "2"])


def _tags(directory):
    lines = [f"{word} {'B-X' if word in PLACES else 'O'}" for text in TEXTS for word in [*text.split(), ""]]
    path = directory / "train.txt"
    path.write_text("\n".join(line if line.strip() != "O" else "" for line in lines))
    return "configs/ner.py", {"dir": str(directory), "validation": "train.txt", "test": ""}


def _spans(directory):
    asked = []
    for i, (text, place) in enumerate(zip(TEXTS, PLACES, strict=False)):
        asked.append((text, [squad_files.question(str(i), "what is it?", [(place, text.index(place))])]))
    path = squad_files.write(directory / "train.json", *asked)
    return "configs/squad.py:1.1", {"train": path, "validation": path, "doc_stride": 16}
