"""Writes a small task of classes: which package a paragraph of documentation comes from.

python -m tools.collect_task --out DIR

DIR/train.jsonl and DIR/validation.jsonl, from docstrings and manuals of packages that are installed, so nothing is
downloaded. A module's paragraphs are all in one of the two files.
"""

import concurrent.futures
import hashlib
import json
import pathlib
import random

import tqdm

from bert_tpu.core import command, storage
from tools import collect_docs

PACKAGES = ("flax", "jax", "keras", "numpy")
ROWS = {"train": 500, "validation": 100}  # of each package
HELD_OUT = 6  # one module of so many is for validation


def collect(out):
    """Leaves both files in `out`; returns the rows of each."""
    modules = []
    for package in PACKAGES:
        (found,) = [each for each in collect_docs.closure([package]) if each.name.lower() == package]
        modules += [(package, path) for path in collect_docs.files(found)]
    seen, split = set(), {name: {package: [] for package in PACKAGES} for name in ROWS}
    with concurrent.futures.ProcessPoolExecutor() as pool:
        found = pool.map(collect_docs.prose, [path for _, path in modules], chunksize=64)
        for (package, path), paragraphs in zip(modules, tqdm.tqdm(found, "paragraphs", len(modules)), strict=True):
            new = [p for p in dict.fromkeys(paragraphs) if p not in seen]
            seen.update(new)
            name = path.split("site-packages")[-1]
            held_out = int.from_bytes(hashlib.sha256(name.encode()).digest()) % HELD_OUT == 0
            split["validation" if held_out else "train"][package] += new
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for name, number in ROWS.items():
        rng = random.Random(0)
        rows = [
            (text, package)
            for package, texts in split[name].items()
            for text in rng.sample(texts, min(number, len(texts)))
        ]
        rng.shuffle(rows)
        lines = [json.dumps({"text": text, "label": package}) + "\n" for text, package in rows]
        storage.write_text(out / f"{name}.jsonl", "".join(lines))
        sizes[name] = len(rows)
    return sizes


def main():
    """Collects and reports."""
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="directory to make")
    args = parser.parse_args()
    sizes = collect(args.out)
    print(
        f"{args.out}: {', '.join(f'{rows:,} rows of {name}' for name, rows in sizes.items())}, {len(PACKAGES)} classes"
    )


if __name__ == "__main__":
    command.run(main)
