"""Writes the English documentation of the installed requirements as plain text, one module a document.

python -m tools.collect_docs --out docs.txt

The demo's corpus: prose from docstrings and README files that are on the machine already, so nothing is downloaded.
"""

import ast
import concurrent.futures
import importlib.metadata
import pathlib
import re
import warnings

from packaging import requirements
import tqdm

from bert_tpu.core import command

MIN_PARAGRAPH = 40  # characters; shorter ones are headings, signatures and bullets
RULE = re.compile(r"^\W+$", re.MULTILINE)  # a line without a letter, such as one under a heading
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def closure(names):
    """The installed distributions that `names` need, themselves included, in alphabetical order."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on another platform only
        needs = map(requirements.Requirement, found[name].requires or ())
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [found[name] for name in sorted(found)]


def files(distribution):
    """Its Python modules and manuals, tests left out."""
    paths = sorted(file for file in distribution.files or () if file.suffix in (".py", ".md", ".rst"))
    return [str(file.locate()) for file in paths if not re.search(r"(^|[/_])tests?([/_.]|$)", str(file))]


def prose(path):
    """Paragraphs of the docstrings, or of the whole file where it is a manual; each on one line."""
    text = pathlib.Path(path).read_text(encoding="utf-8", errors="ignore")
    docs = [text]
    if path.endswith(".py"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other people's escape sequences
                tree = ast.parse(text)
        except SyntaxError:
            return []
        docs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    blocks = [RULE.sub("", block) for doc in docs for block in re.split(r"\n\s*\n", doc)]
    return [" ".join(block.split()) for block in blocks if is_prose(block)]


def is_prose(block):
    """True for running text; false for examples, tables, rules and lists of values."""
    letters = sum(c.isalpha() or c.isspace() for c in block)
    return len(block) >= MIN_PARAGRAPH and letters > 0.85 * len(block) and not re.search(r">>>|```|^\s*[|+]", block)


def collect(requirements_file, out):
    """`out` holds the text of all packages that `requirements_file` brings; returns (bytes, files read)."""
    lines = pathlib.Path(requirements_file).read_text().splitlines()
    names = [requirements.Requirement(line).name for line in lines if line.strip() and line[0] not in "#-"]
    paths = [path for distribution in closure(names) for path in files(distribution)]
    out, seen, size = pathlib.Path(out), set(), 0
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    with concurrent.futures.ProcessPoolExecutor() as pool, partial.open("w", encoding="utf-8") as file:
        found = pool.map(prose, paths, chunksize=64)
        for paragraphs in tqdm.tqdm(found, "documentation", len(paths), unit="file", mininterval=1):
            new = [p for p in dict.fromkeys(paragraphs) if p not in seen]
            seen.update(new)
            if new:
                size += file.write("\n".join(new) + "\n\n")
    partial.replace(out)
    return size, len(paths)


def main():
    """Collects and reports."""
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--requirements", default="requirements.txt", help="whose packages to read")
    parser.add_argument("--out", required=True, help="text file to write")
    args = parser.parse_args()
    size, count = collect(args.requirements, args.out)
    print(f"{args.out}: {size / 1e6:.1f} MB of text from {count:,} files")


if __name__ == "__main__":
    command.run(main)
