"""Writes the English documentation of the installed requirements as plain text, one module a document.

bert-tpu collect-docs --out docs.txt

This is the demo's corpus: prose from docstrings and README files of packages that are installed. Nothing is
downloaded.
"""

import ast
from collections.abc import Iterable
import concurrent.futures
import importlib.metadata
import pathlib
import re
import warnings

import bert_tpu
from bert_tpu.core import command, numerals, worker_process

with command.imports():
    from packaging import requirements
    import tqdm

    from bert_tpu.core import storage

MIN_PARAGRAPH = 40  # characters; shorter blocks are headings, signatures and bullets
RULE = re.compile(r"^\W+$", re.MULTILINE)  # a line without a letter, such as one under a heading
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def closure(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """Returns the distributions `names` and all that they need, as far as installed, in alphabetical order."""
    distributions: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in distributions:
            continue
        try:
            distributions[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on another platform only
        needs = map(requirements.Requirement, distributions[name].requires or ())
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [distributions[name] for name in sorted(distributions)]


def files(distribution: importlib.metadata.Distribution) -> list[str]:
    """Returns the paths of the Python modules and manuals of a distribution, without its tests."""
    paths = sorted(file for file in distribution.files or () if file.suffix in (".py", ".md", ".rst"))
    return [str(file.locate()) for file in paths if not re.search(r"(^|[/_])tests?([/_.]|$)", str(file))]


def prose(path: str) -> list[str]:
    """Returns the paragraphs of a module's docstrings, or of a manual; each paragraph is one line."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="ignore")
    except FileNotFoundError:
        return []  # removed after the installation
    docs = [text]
    if path.endswith(".py"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other people's escape sequences
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last three: zero bytes, deep nesting
            return []
        docs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    blocks = [RULE.sub("", block) for doc in docs for block in re.split(r"\n\s*\n", doc)]
    return [" ".join(block.split()) for block in blocks if is_prose(block)]


def is_prose(block: str) -> bool:
    """True for running text; False for examples, tables, rules and lists of values."""
    letters = sum(c.isalpha() or c.isspace() for c in block)
    return len(block) >= MIN_PARAGRAPH and letters > 0.85 * len(block) and not re.search(r">>>|```|^\s*[|+]", block)


def names(requirements_file: str) -> list[str]:
    """Returns the names in a file of requirements. Raises UserError for a line that is none; pip's options are."""
    packages = []
    for number, line in enumerate(_lines(requirements_file), 1):
        words = re.sub(r"(^|\s)#.*", "", line).strip()
        if not words or words.startswith("-"):
            continue
        try:
            packages.append(requirements.Requirement(words).name)
        except requirements.InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise command.UserError(
                f"{requirements_file}, line {number}: {words[:80]!r} is not a requirement ({reason}); correct the line"
            ) from None
    return packages


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _lines(path: str) -> list[str]:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except ValueError:
        raise command.UserError(f"{path} is not UTF-8 text: give a file of requirements") from None


def own_requirements() -> list[str]:
    """Returns the names of the packages that bert_tpu needs: as it is installed, or those in the clone's file."""
    try:
        lines = importlib.metadata.requires("bert_tpu") or []
    except importlib.metadata.PackageNotFoundError:
        return names(str(pathlib.Path(bert_tpu.__file__).parents[1] / "requirements.txt"))
    needs = map(requirements.Requirement, lines)
    return [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def collect(requirements_file: str | None, out: str) -> tuple[int, int]:
    """Writes the text of all packages that `requirements_file` needs to `out`; returns (characters, files read).

    None stands for the requirements of bert_tpu. Prints the packages that are not installed. Raises UserError if the
    others have no text.
    """
    packages = names(requirements_file) if requirements_file else own_requirements()
    named = {name.lower().replace("_", "-") for name in packages}
    distributions = closure(named)
    if absent := sorted(name for name in named if not _is_installed(name)):
        print(f"not installed, so left out: {', '.join(absent)}")
    paths = [path for distribution in distributions for path in files(distribution)]
    size = 0
    seen: set[str] = set()
    with (
        concurrent.futures.ProcessPoolExecutor(initializer=worker_process.start) as pool,
        storage.atomic_file(out) as file,
    ):
        results = pool.map(prose, paths, chunksize=64)
        for paragraphs in tqdm.tqdm(results, "documentation", len(paths), unit="file", mininterval=1):
            new = [p for p in dict.fromkeys(paragraphs) if p not in seen]
            seen.update(new)
            if new:
                text = "\n".join(new) + "\n\n"
                file.write(text.encode())
                size += len(text)
        if not size:
            raise command.UserError(
                f"{requirements_file or 'bert_tpu'} names no installed package with documentation: install its "
                "packages, or name others"
            )
    return size, len(paths)


def main() -> None:
    """Collects and prints how much."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--requirements", metavar="FILE", help="requirements.txt whose packages are read (default: those of bert_tpu)"
    )
    parser.add_argument("--out", required=True, type=storage.local, help="text file to write")
    args = parser.parse_args()
    size, count = collect(args.requirements, args.out)
    print(f"{args.out}: {size / 1e6:.1f} MB of text from {numerals.count(count, 'file')}")


if __name__ == "__main__":
    command.run(main)
