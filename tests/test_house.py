"""Guards of the house: imports run downward, files stay small, and heavy libraries stay where they belong."""

import ast
import re
import subprocess
import sys
import tomllib

from conftest import ROOT
import pytest

# What each folder of bert_tpu may import, besides itself.
MAY_IMPORT = {
    "core": "",
    "cli": "core",
    "hardware": "core",
    "tokenizer": "core",
    "wikitext": "core",
    "readers": "core wikitext",
    "model": "core",
    "monitoring": "core",
    "distributed": "core hardware",
    "corpus": "core readers tokenizer",
    "data": "core corpus tokenizer",
    "training": "core hardware tokenizer monitoring distributed",
    "tasks": "core readers tokenizer data",
    "huggingface": "core tokenizer model training",
    "pretrain": "core hardware tokenizer model monitoring distributed corpus data training huggingface",
    "report": "core hardware readers corpus monitoring training",
    "finetune": "core hardware model monitoring distributed data training tasks huggingface",
    "inference": "core tokenizer model data huggingface",
    "planning": "core hardware distributed training pretrain",
    "recipes": "core corpus huggingface monitoring training pretrain",
    "bias": "core readers tasks huggingface inference",
    "export": "core corpus data tokenizer model training tasks huggingface pretrain finetune report",
}  # fmt: skip
FILES = sorted((ROOT / "bert_tpu").rglob("*.py"))
TOP_LEVEL = {"configs", "tools"}  # of a clone; bert_tpu has a folder that leads to each of them


def module(path):
    """The name of a file's module within bert_tpu: data.packing."""
    return ".".join(path.relative_to(ROOT / "bert_tpu").with_suffix("").parts)


def imports(path):
    """(top-level package, module of bert_tpu or None) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            package, *inner = node.module.split(".")
            for alias in node.names:
                is_ours = package == "bert_tpu" and (inner or alias.name in MAY_IMPORT)
                # `from bert_tpu.core.command import UserError` imports a module, too.
                name = ".".join((*inner, alias.name)[:2])
                yield package, name if is_ours else None
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, *inner = alias.name.split(".")
                yield package, ".".join(inner) if package == "bert_tpu" and inner else None


def graph():
    """The modules that each module of bert_tpu imports, by name."""
    files = [path for path in FILES if path.stem != "__init__" and path.parent.name != "bert_tpu"]
    return {module(path): {name for _, name in imports(path) if name} for path in files}


def test_each_folder_says_in_one_line_what_it_is_for():
    folders = {path.parent.name for path in FILES} - {"bert_tpu", *TOP_LEVEL}  # an older checkout may leave empty ones
    assert folders == set(MAY_IMPORT)
    for folder in folders:
        text = (ROOT / "bert_tpu" / folder / "__init__.py").read_text()
        assert len(text.splitlines()) == 1
        assert ast.get_docstring(ast.parse(text))


def test_folders_import_only_what_the_table_allows():
    forbidden = [
        (importer, imported)
        for importer, modules in graph().items()
        for imported in modules
        if imported.split(".")[0] not in (folder := importer.split(".")[0], *MAY_IMPORT[folder].split())
    ]
    assert not forbidden


def test_the_table_runs_one_way():
    folders = list(MAY_IMPORT)
    for folder, allowed in MAY_IMPORT.items():
        assert all(folders.index(below) < folders.index(folder) for below in allowed.split())


def test_no_circles():
    left = graph()
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("flax", {"model.layers", "model.transformer"}),
        ("jinja2", {"report.page"}),
        ("matplotlib", {"bias.chart", "recipes.plot", "report.svg"}),
        (
            "tensorflow",
            {
                "data.corpus_batches",
                "data.host_share",
                "data.masking",
                "data.nsp_pairs",
                "data.packed_batches",
                "data.tensors",
                "data.sampler",
                "huggingface.google",
                "monitoring.trackers",
                "readers.tfds",
            },
        ),
        ("torch", {"export.onnx_graph", "export.pytorch", "huggingface.weights"}),
        ("transformers", {"export.onnx_graph", "export.pytorch", "export.user_rows"}),
        ("onnxruntime", {"export.onnx_graph", "export.onnx_quantize"}),
        ("sklearn", {"tasks.metrics"}),
        ("scipy", {"recipes.gain", "tasks.metrics"}),
    ],
)
def test_heavy_libraries_stay_in_their_rooms(library, where):
    assert {module(path) for path in FILES if library in {package for package, _ in imports(path)}} <= where


def test_importing_brings_no_tensorflow_and_no_torch():
    """They cost seconds; only reading data, writing events and checking an export needs them."""
    heavy = {"tensorflow", "torch", "transformers", "onnx", "onnxruntime", "sklearn", "scipy.stats"}
    names = (
        "pretrain.pretraining corpus.prepare inference.fill_mask inference.embed export.pytorch export.onnx_files "
        "tasks.glue tasks.table tasks.ner bias.audit"
    )
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
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 270
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 60, f"{path.name}: {node.name} is too long"


def test_tools_import_each_other_by_names_that_a_wheel_has():
    for path in (ROOT / "tools").glob("*.py"):
        assert not TOP_LEVEL & {package for package, _ in imports(path)}, path.name


def test_configs_are_plain_data():
    for path in (ROOT / "configs").glob("*.py"):
        assert {package for package, _ in imports(path)} <= {"ml_collections", "bert_tpu"}
        assert all(name.startswith("configs.") for _, name in imports(path) if name)


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


def test_requirements_are_listed_once_in_ranges_and_pinned_in_one_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == project["dependencies"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    assert not [line for line in project["dependencies"] + extras if "==" in line]
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    named = {re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"] + extras}
    assert named - pinned == {"bert_tpu", "libtpu"}  # jax[tpu] asks for another libtpu than the extra `plan`


def test_the_page_on_architecture_has_the_table_of_folders():
    text = (ROOT / "docs/architecture.md").read_text()
    for folder, allowed in MAY_IMPORT.items():
        purpose = ast.get_docstring(ast.parse((ROOT / "bert_tpu" / folder / "__init__.py").read_text()))
        assert f"| `{folder}` | {purpose} | {allowed or 'nothing of ours'} |" in text
