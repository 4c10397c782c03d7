"""Guards of the house: imports run downward, files stay small, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys

from conftest import ROOT
import pytest

FLOORS = {
    0: ("command",),
    1: (
        "activation", "attention", "beam", "cache", "card", "checkpoint", "chips", "chunks", "classes", "clean",
        "collectives", "config", "contamination", "corpus", "cost", "cross_entropy", "datasets", "dealing", "dropout",
        "duplicates", "embedding", "energy", "evidence", "fingerprint", "flops", "hbm", "health", "hf", "hlo", "hosts",
        "hours", "kept", "layout", "lines", "log", "masking", "memory", "mesh", "mix", "model", "names", "optim",
        "packed", "packing", "pairs", "parts", "picking", "places", "pool", "product", "progress", "publish", "readers",
        "recipe", "rendezvous", "sections", "sentences", "shingles", "sieve", "sizes", "sources", "stop", "tables",
        "units", "versions", "visits", "vocab", "watchdog", "wikitext", "wordpiece", "workdir",
    ),
    2: ("prepare", "data", "describe", "train"),
    3: (
        "tasks.board", "tasks.columns", "tasks.glue", "tasks.glue_tasks", "tasks.ner", "tasks.rows", "tasks.scores",
        "tasks.spans", "tasks.squad", "tasks.squad_file", "tasks.squad_score", "tasks.submission", "tasks.table",
        "tasks.task", "tasks.windows",
    ),
    4: (
        "buckets", "compiler", "embed", "export", "feed", "fill_mask", "finetuned", "heads", "judge", "likelihood",
        "loop", "nonfinite", "objective", "pretrained", "recomputed", "replay", "samples",
    ),
    5: (
        "beside", "bias.audit", "bias.bootstrap", "bias.chart", "bias.crows", "bias.report", "bias.stereoset",
        "bias.templates", "bias.winogender", "onnx.cost", "onnx.graph", "onnx.smaller", "report.curves", "report.page",
        "report.run", "report.svg", "report.tables", "suite",
    ),
    6: ("running",),
    7: ("finetune", "pretrain"),
    8: ("onnx.forms", "plan"),
}  # fmt: skip
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
PACKAGES = ("bert_tpu", "bert_tpu.bias", "bert_tpu.onnx", "bert_tpu.report", "bert_tpu.tasks")
FILES = sorted((ROOT / "bert_tpu").rglob("*.py"))


def module(path):
    """A file's name within bert_tpu: data, tasks.rows."""
    return ".".join(path.relative_to(ROOT / "bert_tpu").with_suffix("").parts)


def imports(path):
    """(top-level package, module of bert_tpu or None) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_ours = node.module in PACKAGES and full not in PACKAGES
                yield node.module.split(".")[0], full.removeprefix("bert_tpu.") if is_ours else None
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], None


def graph():
    return {module(path): {name for _, name in imports(path) if name} for path in FILES if path.stem != "__init__"}


def test_every_file_has_its_floor():
    assert set(graph()) == set(FLOOR)


def test_imports_run_downward():
    upward = [(a, b) for a, below in graph().items() for b in below if FLOOR[b] > FLOOR[a]]
    assert not upward


def test_no_circles():
    left = graph()
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("flax", {"model"}),
        ("jinja2", {"report.page"}),
        ("matplotlib", {"bias.chart", "report.svg"}),
        ("tensorflow", {"data", "datasets", "log", "masking", "packed", "pairs", "visits"}),
        ("torch", {"export", "hf", "onnx.graph"}),
        ("transformers", {"export", "onnx.graph"}),
        ("onnxruntime", {"onnx.graph", "onnx.smaller"}),
        ("sklearn", {"tasks.scores"}),
        ("scipy", {"tasks.scores"}),
        ("seqeval", {"tasks.ner"}),
    ],
)
def test_heavy_libraries_stay_in_their_rooms(library, where):
    assert {module(path) for path in FILES if library in {package for package, _ in imports(path)}} <= where


def test_importing_brings_no_tensorflow_and_no_torch():
    """They cost seconds; only reading data, writing events and checking an export needs them."""
    heavy = {"tensorflow", "torch", "transformers", "onnx", "onnxruntime", "sklearn", "scipy.stats", "seqeval"}
    names = "pretrain prepare fill_mask export embed tasks.glue tasks.table tasks.ner bias.audit onnx.forms"
    code = f"""if True:
        import importlib, sys
        for name in {names.split()}:
            importlib.import_module("bert_tpu." + name)
            assert not {heavy} & set(sys.modules), (name, {heavy} & set(sys.modules))
        """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path",
    [*FILES, *sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "launch").glob("*.py"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_files_are_short_and_say_what_they_are_for(path):
    text = path.read_text()
    if path.name == "__init__.py" and not text:
        return
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 270
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 60, f"{path.name}: {node.name} is too long"


def test_configs_are_plain_data():
    for path in (ROOT / "configs").glob("*.py"):
        assert {package for package, _ in imports(path)} <= {"ml_collections", "configs"}


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.sh")), ids=lambda p: p.name)
def test_shell_files_are_short_and_say_what_they_are_for(path):
    lines = path.read_text().splitlines()
    assert next(line for line in lines if not line.startswith(("#!", "# shellcheck"))).startswith("# ")
    assert len(lines) <= 270
    start = 0
    for number, line in enumerate(lines):
        if line.endswith("() {"):
            start = number
        elif line == "}":
            assert number - start <= 60, f"{path.name}: the function at line {start + 1} is too long"


def test_pyproject_can_read_the_requirements():
    """setuptools takes names from that file, and refuses pip's options."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(line.startswith("#") or line[0].isalpha() for line in lines)
    for name in ("corpus", "finetune", "plan", "tpu"):
        assert "-c constraints.txt" in (ROOT / f"requirements-{name}.txt").read_text().splitlines()
