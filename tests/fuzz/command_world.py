"""A folder in which every command finds what it needs: text, vocabulary, corpus, run, export, benchmarks and tables."""

import atexit
import functools
import json
import os
import pathlib
import random
import shutil
import tempfile
import time

from helpers import bias_benchmarks, small_bert

from bert_tpu.core import config, storage
from bert_tpu.corpus import prepare, store
from bert_tpu.export import pytorch
from bert_tpu.monitoring import hours, versions
from bert_tpu.tokenizer import vocab
import tools

ROOT = pathlib.Path(tools.__file__).parent.parent
PROGRAM = """HloModule m

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8] parameter(0)
  ROOT %y = f32[8] add(%x, %x), backend_config={"estimated_cycles":"100"}
}
"""
SCORES = {"validation": {"accuracy": 0.5, "f1": 0.75}}


def fill(folder):
    """Copies the files to `folder`."""
    shutil.copytree(make(), folder, symlinks=True, dirs_exist_ok=True)


@functools.cache
def make():
    """Makes the folder and returns its path. It lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="bert_tpu-fuzz-")
    atexit.register(folder.cleanup)
    path = pathlib.Path(folder.name)
    before = os.getcwd()
    os.chdir(path)  # what the files name is relative
    try:
        _make(path)
    finally:
        os.chdir(before)
    return path


def _make(path):
    (path / "text.txt").write_text(_text())
    (path / "binary.bin").write_bytes(bytes(range(256)) * 4)
    (path / "empty").touch()
    (path / "emptyfolder").mkdir()
    vocab.save(small_bert.VOCAB, path / "vocabulary")
    shutil.copytree(small_bert.saved_once(), path / "model")
    shutil.copytree(ROOT / "configs", path / "configs")  # no link: a command may be drawn that writes to one of them
    prepare.prepare(["text.txt"], "vocabulary", "corpus", workers=1)
    _make_run(path / "run")
    pytorch.export(path / "run", path / "export")
    (path / "program.hlo").write_text(PROGRAM)
    (path / "requirements.txt").write_text("tqdm\n")
    (path / "bias").mkdir()
    bias_benchmarks.write_crows(path / "bias" / "crows_pairs_anonymized.csv")
    write_rte(path / "glue")
    (path / "tuned").mkdir()
    for name, raw in tuning("model", "glue").items():
        (path / "tuned" / name).write_bytes(raw)


def _text():
    drawn, words = random.Random(0), [word for word in small_bert.WORDS.split() if word.isalpha()]
    documents = []
    for _ in range(300):
        sentences = [
            " ".join(drawn.choices(words, k=drawn.randint(4, 9))).capitalize() + "." for _ in range(drawn.randint(3, 9))
        ]
        documents.append(" ".join(sentences) + "\n")
    return "\n".join(documents)


def _make_run(path):
    path.mkdir()
    small_bert.workdir(path, small_bert.SHALLOW)
    content = json.loads((path / "config.json").read_text())
    content["corpus"]["sha256"] = store.read("corpus").sha256
    content |= {"plan": {"pue": 1.5, "kgco2e_per_kwh": 0.5, "price": {}}, "num_steps": 9, "batch_size": 4}
    storage.write_text(path / "config.json", json.dumps(content))
    losses = {"mlm_loss": 4.25, "mlm_accuracy": 0.125, "nsp_accuracy": 0.75}
    lines = [
        {"step": step, "kind": "train", "seq_len": 16, "loss": 9.0, "examples_per_sec": 10.0} | losses
        for step in range(1, 8)
    ]
    lines.append({"step": 7, "kind": "eval", "seq_len": 16} | losses)
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    clock = hours.Hours(path, writes=True, units={"TPU v4": 16}, began_s=time.monotonic() - 3600)
    clock.resume(0)
    clock.write(7)
    versions.record(path, 0)


def tuning(model, data):
    """File name -> bytes of a fine-tuning of RTE with two seeds, and of the scores of its repetition."""
    cfg = config.load(str(ROOT / "configs/glue.py:rte"))
    cfg.update_from_flattened_dict({"init_from": model, "data.dir": data, "seeds": (0, 1), "max_length": 16})
    both = {"0": SCORES, "1": SCORES}
    spread = {name: {"mean": score, "std": 0.0, "best": score} for name, score in SCORES["validation"].items()}
    contents = {
        "config.json": cfg.to_dict() | {"task": {}, "bert": {}},
        "scores.json": {"step": 3, "seeds": both, "summary": {"validation": spread}},
        "transformers.json": both,
    }
    return {name: json.dumps(content, indent=1).encode() for name, content in contents.items()}


def write_rte(folder):
    """Writes RTE's files to a folder of GLUE."""
    rows = "index\tsentence1\tsentence2\tlabel\n" + "".join(
        f"{i}\tthe cat sat\tthe dog ran\t{('entailment', 'not_entailment')[i % 2]}\n" for i in range(8)
    )
    (folder / "RTE").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / "RTE" / f"{split}.tsv").write_text(rows)


def files(*folders):
    """{path: bytes} of the files in these folders of the world."""
    return {
        path.relative_to(make()).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted((make() / folder).rglob("*"))
        if path.is_file()
    }
