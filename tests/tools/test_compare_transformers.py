"""A fine-tuning and its repetition by transformers have the same scores; one that cannot be repeated is refused."""

import json
import random
import re
import shutil

from helpers import optional, small_bert
import numpy as np
import pytest
import safetensors.numpy

from bert_tpu.core import command, config
from bert_tpu.finetune import finetuning
from tools import compare_transformers

KEYS = {
    "seeds": (2, 0), "batch_size": 8, "num_steps": 0, "epochs": 3.0, "max_length": 16, "model.dtype": "float32",
    "model.dropout": 0.0, "model.attention_dropout": 0.0, "optim.learning_rate": 1e-3, "optim.weight_decay": 0.3,
    "warmup": 0.3, "log.every_steps": 9, "compile_cache": "",
}  # fmt: skip


def write(folder):
    """Writes STS-B's files. Sentences are as similar as they have words in common; some pairs are longer than a row."""
    drawn = random.Random(0)
    words = [word for word in small_bert.WORDS.split() if word.isalpha()]
    (folder / "STS-B").mkdir(parents=True)
    for split, number in (("train", 60), ("dev", 40)):
        rows = ["index\tsentence1\tsentence2\tscore"]
        for i in range(number):
            first = drawn.sample(words, drawn.randint(3, 9))
            kept = drawn.randint(0, len(first))
            second = first[:kept] + drawn.choices(words, k=len(first) - kept)
            rows.append(f"{i}\t{' '.join(first)}\t{' '.join(second)}\t{5 * kept / len(first):.3f}")
        (folder / "STS-B" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder


def tuned(root, model):
    """Returns the workdir of a finished fine-tuning."""
    cfg = config.load("configs/glue.py:stsb")
    cfg.update_from_flattened_dict(KEYS | {"init_from": str(model), "data.dir": str(write(root / "glue"))})
    assert finetuning.run(cfg, root / "stsb") == 0
    path = root / "stsb" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"model": content["model"] | {"softmax": "exact"}}))  # of earlier releases
    return root / "stsb"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("parity")
    return tuned(root, small_bert.save(root / "model"))


def without_pooler(directory):
    """Writes a model without a pooler, like a BertForMaskedLM, in float16: each seed draws a pooler."""
    path = small_bert.save(directory) / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    kept = {name: x.astype(np.float16) for name, x in tensors.items() if not re.search("pooler|seq_relationship", name)}
    safetensors.numpy.save_file(kept, path, metadata={"format": "pt"})
    content = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(content | {"torch_dtype": "float16"}))
    return directory


@optional.NEEDS_PYTORCH
@pytest.mark.parametrize("kind", ["whole", "without pooler"])
def test_transformers_trained_on_the_same_rows_has_the_same_scores(done, tmp_path, kind):
    done = done if kind == "whole" else tuned(tmp_path, without_pooler(tmp_path / "model"))
    lines = list(compare_transformers._lines(done))
    ours = json.loads((done / "scores.json").read_text())["seeds"]
    theirs = json.loads((done / compare_transformers.SAVED).read_text())
    assert list(theirs) == list(ours) == ["2", "0"]
    for seed, splits in ours.items():
        assert theirs[seed]["validation"]["pearson"] == pytest.approx(splits["validation"]["pearson"], abs=2e-4)
        # Rounding may change the places of two rows whose scores are nearly equal.
        assert theirs[seed]["validation"]["spearman"] == pytest.approx(splits["validation"]["spearman"], abs=5e-3)
    # The seeds have different heads and orders of rows, so a comparison of one with the other would fail.
    pearson = [splits["validation"]["pearson"] for splits in ours.values()]
    assert abs(pearson[0] - pearson[1]) > 5e-3
    mean = sum(pearson) / 2
    assert lines[0].startswith(f"| stsb | validation | pearson | {mean:.4f} ± {abs(pearson[0] - pearson[1]) / 2:.4f} |")


def test_a_saved_seed_is_not_trained_again(done, tmp_path, monkeypatch):
    directory = shutil.copytree(done, tmp_path / "stsb")
    saved, new = ({"validation": {"pearson": x}} for x in (0.25, 0.75))
    (directory / compare_transformers.SAVED).write_text(json.dumps({"2": saved}))
    trained = []
    monkeypatch.setattr(compare_transformers, "_train", lambda opened, place, title: trained.append(title) or new)
    for _ in range(2):
        (line,) = compare_transformers._lines(directory)
        assert line.split(" | ")[4] == "0.5000 ± 0.2500"
        assert trained == ["stsb, seed 0"]


@optional.NEEDS_PYTORCH
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"reader": "table"}, "is not a finished fine-tuning of GLUE"),
        ({"init_from": "elsewhere"}, "started from elsewhere, which is not a Hugging Face directory"),
        ({"optim": {"name": "lamb"}}, "only adamw with the linear schedule"),
    ],
)
def test_a_workdir_that_cannot_be_repeated_is_refused(done, tmp_path, change, complaint):
    directory = shutil.copytree(done, tmp_path / "stsb")
    (directory / compare_transformers.SAVED).unlink(missing_ok=True)
    content = json.loads((directory / "config.json").read_text())
    if "optim" in change:
        change = {"optim": content["optim"] | change["optim"]}
    (directory / "config.json").write_text(json.dumps(content | change))
    with pytest.raises(command.UserError, match=complaint):
        list(compare_transformers._lines(directory))


def test_an_unfinished_fine_tuning_is_refused(done, tmp_path):
    directory = shutil.copytree(done, tmp_path / "stsb")
    (directory / "scores.json").unlink()
    with pytest.raises(command.UserError, match="finish it"):
        list(compare_transformers._lines(directory))


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("config.json", {"seeds": [1, 2]}, r"belongs to other scores \(seeds\)"),
        ("config.json", {"init_from": None}, r"is damaged or belongs to other scores \(init_from\)"),
        ("config.json", {"optim": 3}, "config.json is damaged"),
        ("config.json", {"batch_size": "x"}, "config.json is damaged"),
        (compare_transformers.SAVED, {"2": {"validation": {"f1": 1.0}}}, "has other scores than scores.json"),
        (compare_transformers.SAVED, {"2": {}}, "has other scores than scores.json"),
        ("scores.json", {"seeds": {}}, "finish it"),
    ],
)
def test_a_damaged_file_of_a_workdir_is_named(done, tmp_path, monkeypatch, file, change, complaint):
    directory = shutil.copytree(done, tmp_path / "stsb")
    saved = {"2": {"validation": {"pearson": 0.5}}}
    monkeypatch.setattr(compare_transformers, "_train", lambda *_: saved["2"])
    (directory / compare_transformers.SAVED).write_text(json.dumps(saved))
    content = json.loads((directory / file).read_text())
    (directory / file).write_text(json.dumps(content | change))
    with pytest.raises(command.UserError, match=complaint):
        list(compare_transformers._lines(directory))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_no_number_among_the_others(wrong):
    assert compare_transformers._cells([0.5, wrong], [0.5, 0.7]).startswith("nan ± nan | 0.6000 ± 0.1000 | +nan")
