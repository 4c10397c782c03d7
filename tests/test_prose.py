"""Guards of the prose: docstrings, messages and pages are plain English, and the pages name things that exist."""

import ast
import re

from conftest import ROOT
import pytest

BAD_STARTS = ("Of", "Those", "As", "Within", "What", "Whoever", "Where", "Which")  # the subject comes first
# The common word instead: fix, next to or compared with, again, report.
UNCOMMON = re.compile(
    r"\b(mends?|mended|beside|anew|whoever|is told|are told)\b|(?<![Tt]here )\b(is|are) no\b(?! longer)"
)
FOLDERS = (ROOT, ROOT / "bert_tpu", ROOT / "tests", ROOT / "docs")
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [
    path for folder in ("bert_tpu", "tools", "launch", "configs") for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_english_is_plain(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            assert text.split()[0].rstrip(",:") not in BAD_STARTS, text
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not UNCOMMON.search(node.value), node.value


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_pages_are_plain_and_name_files_that_exist(path):
    text = path.read_text()
    assert not UNCOMMON.search(text)
    for name in re.findall(r"(?<![\w/.])(?:[a-z_]+/)+[a-z_]+\.(?:py|sh|yaml)\b", text):
        assert any((folder / name).exists() for folder in FOLDERS), name
    for name, attribute in re.findall(r"(?<![\w/.])(?!configs)((?:[a-z_]+/)+[a-z_]+\.py):(\w+)", text):
        source = next(folder / name for folder in FOLDERS if (folder / name).exists()).read_text()
        assert re.search(rf"^( *(def|class) |){attribute}\b", source, re.MULTILINE), f"{name} has no {attribute}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target


def test_links_to_headings_lead_somewhere():
    def anchors(path):
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for path in PROSE:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
            assert anchor in anchors(path.parent / target if target else path), f"{path.name}: {target}#{anchor}"


def test_the_readme_is_one_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200


def test_arguments_are_annotated():
    """The rest are arguments that may be anything; mypy, in `make lint`, checks the annotations."""
    annotated = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                annotated += [bool(a.annotation) for a in arguments if a.arg not in ("self", "cls")]
    assert sum(annotated) >= 0.85 * len(annotated)
