"""Scores of other libraries are those of the model that was given, also after a stop and with another model."""

import importlib.util
import json
import sys

from helpers import small_bert
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.inference import embed
from bert_tpu.tools import _evaluate_euroeval, _evaluate_mteb, evaluate

PAIRS = (
    ("the cat sat", "the cat ran", 4.0), ("a big dog", "a very big dog", 4.5), ("red tree", "it was he", 1.0),
    ("the mat", "under the house", 2.0), ("she ran", "he ran", 3.0),
)  # fmt: skip
# What tools.evaluate calls of mteb. Like mteb 2, it keeps results of any local model under one name.
STUB = """
import json, pathlib, types
class ResultCache:
    def __init__(self, cache_path): self.path = pathlib.Path(cache_path)
def get_task(name):
    if not name.isalpha(): raise KeyError(f"'{name}' not found")
    return types.SimpleNamespace(metadata=types.SimpleNamespace(name=name, main_score="accuracy"))
get_benchmark = get_task
def evaluate(model, task, cache, overwrite_strategy, encode_kwargs):
    if task.metadata.name == "Absent": raise ConnectionError("Couldn't reach it")
    file = cache.path / f"{task.metadata.name}.json"
    if not file.exists():
        file.write_text(json.dumps(sum(model.read_bytes()) / 1e6))
    scores = {"test": [{"main_score": json.loads(file.read_text())}]}
    return types.SimpleNamespace(task_results=[types.SimpleNamespace(scores=scores)])
"""
ENCODER = """
import pathlib
def SentenceTransformer(directory): return pathlib.Path(directory) / "model.safetensors"
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    if importlib.util.find_spec("mteb"):
        pytest.skip("mteb itself is installed")
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "mteb.py").write_text(STUB)
    (tmp_path / "packages" / "sentence_transformers.py").write_text(ENCODER)  # the real one takes seconds to import
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("sentence_transformers")}
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setattr(_evaluate_mteb, "version", lambda: "mteb 2")
    yield
    for name in ("mteb", "sentence_transformers"):
        sys.modules.pop(name, None)
    sys.modules.update(loaded)


def run(monkeypatch, model, out, *tasks, library="mteb"):
    words = ["--model", model, "--with", library, "--tasks", *tasks, "--out", out]
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, words)])
    evaluate.main()
    return json.loads((out / "scores.json").read_text())["scores"]


def test_results_of_another_model_are_never_taken(stub, tmp_path, monkeypatch):
    """The libraries know a model by a name that all directories share."""
    model, out = small_bert.save(tmp_path / "model", small_bert.SHALLOW), tmp_path / "out"
    first = run(monkeypatch, model, out, "One")
    assert first["One"]["accuracy, test"] == sum((model / "model.safetensors").read_bytes()) / 1e6
    assert list(run(monkeypatch, model, out, "One", "Two")) == ["One", "Two"]
    raw = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(raw[:-4] + b"abcd")  # the same directory, exported again
    with pytest.raises(command.UserError, match="has the results of another model or library"):
        run(monkeypatch, model, out, "One")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "One.json").write_text("1")
    with pytest.raises(command.UserError, match="is not empty and has no scores"):
        run(monkeypatch, model, tmp_path / "full", "One")


def test_absent_data_and_unknown_names_are_named_and_finished_tasks_kept(stub, tmp_path, monkeypatch):
    model, out = small_bert.save(tmp_path / "model", small_bert.SHALLOW), tmp_path / "out"
    with pytest.raises(command.UserError, match=r"no task or benchmark 'no\.task'"):
        run(monkeypatch, model, out, "no.task")
    with pytest.raises(command.UserError, match=r"cannot evaluate Absent \(Couldn't reach it\)"):
        run(monkeypatch, model, out, "One", "Absent")
    assert (out / "One.json").exists()
    assert list(run(monkeypatch, model, out, "One")) == ["One"]


def test_a_library_that_is_not_installed_and_other_directories_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_require", lambda library: None)
    with pytest.raises(command.UserError, match="bert-tpu export"):
        run(monkeypatch, tmp_path, tmp_path / "out", "One")
    monkeypatch.undo()
    if importlib.util.find_spec("euroeval") is None:
        with pytest.raises(command.UserError, match="pip install WHEEL_OF_BERT_TPU euroeval 'transformers<5'"):
            run(monkeypatch, tmp_path, tmp_path / "out", "One", library="euroeval")


def test_an_option_of_the_other_library_is_refused_and_not_ignored(tmp_path, monkeypatch):
    for library, option, match in (
        ("mteb", "--iterations=3", "--iterations is for --with euroeval alone: leave it out with mteb"),
        ("euroeval", "--batch_size=8", "--batch_size is for --with mteb alone: leave it out with euroeval"),
        ("mteb", "--batch_size=0", "--batch_size 0: give 1 or more"),
    ):
        with pytest.raises(command.UserError, match=match):
            run(monkeypatch, tmp_path, tmp_path / "out", "One", option, library=library)


@pytest.mark.filterwarnings("ignore")
def test_real_mteb_scores_the_vectors_of_embed(tmp_path):
    pytest.importorskip("mteb")
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata
    from scipy import stats

    (tmp_path / "data").mkdir()
    rows = [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in PAIRS]
    (tmp_path / "data" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Own(AbsTaskSTS):
        metadata = TaskMetadata(
            name="Own", description="Own sentences.", type="STS", category="t2t", modalities=["text"],
            dataset={"path": str(tmp_path / "data"), "revision": "1"}, main_score="cosine_pearson",
            eval_splits=["test"], eval_langs=["eng-Latn"], reference=None, date=None, domains=None, license=None,
            task_subtypes=None, annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation=None,
        )  # fmt: skip

    model = small_bert.save(tmp_path / "model")
    scores = _evaluate_mteb.run(model, [Own()], tmp_path / "out", 4)
    (tmp_path / "lines").write_text("".join(f"{a}\n{b}\n" for a, b, _ in PAIRS))
    embed.write(embed.load(model), tmp_path / "lines", tmp_path / "x.npy")
    vectors = np.load(tmp_path / "x.npy")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = stats.pearsonr((vectors[::2] * vectors[1::2]).sum(1), [score for _, _, score in PAIRS])[0]
    assert scores == {"Own": {"cosine_pearson, test": pytest.approx(expected, abs=1e-4)}}


CUSTOM = """
from euroeval import DatasetConfig, TEXT_CLASSIFICATION
from euroeval.languages import ENGLISH

FILES = dict(train="{0}/train.csv", val="{0}/val.csv", test="{0}/test.csv")
OWN = DatasetConfig(
    name="own", pretty_name="Own", source=FILES, task=TEXT_CLASSIFICATION, languages=[ENGLISH], _labels=["cat", "dog"]
)
"""
# EuroEval fetches its metrics from the Hub, but first looks into the working folder.
METRIC = """
import datasets
import evaluate
import sklearn.metrics

class Metric(evaluate.Metric):
    def _info(self):
        features = datasets.Features(predictions=datasets.Value("int32"), references=datasets.Value("int32"))
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references, **options):
        return {{"{0}": sklearn.metrics.{1}(references, predictions, **options)}}
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("euroeval") is None, reason="EuroEval is not installed")
def test_real_euroeval_fine_tunes_on_own_rows(tmp_path, monkeypatch):
    for name, number in (("train", 64), ("val", 32), ("test", 32)):
        rows = [f"the {('cat', 'dog')[n % 2]} ran {n},{('cat', 'dog')[n % 2]}\n" for n in range(number)]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(rows))
    (tmp_path / "custom_datasets.py").write_text(CUSTOM.format(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = small_bert.save(tmp_path / "model", small_bert.SHALLOW | {"max_positions": 128})
    _evaluate_euroeval.check(model)
    for name, function in (("matthews_correlation", "matthews_corrcoef"), ("f1", "f1_score")):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / f"{name}.py").write_text(METRIC.format(name, function))
    assert _evaluate_euroeval.find(["own"]) == ["own"]
    scores = _evaluate_euroeval.run(model, ["own"], tmp_path / "out", 1)
    assert set(scores) == {"own"}
    assert all(0 <= value <= 100 or "mcc" in name for name, value in scores["own"].items())
