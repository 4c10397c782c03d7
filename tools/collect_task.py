"""Writes a small classification task: which package does a paragraph of documentation come from?

bert-tpu collect-task --out DIR

Writes DIR/train.jsonl and DIR/validation.jsonl from docstrings and manuals of packages that are installed. Nothing is
downloaded. All paragraphs of a module are in the same file.
"""

import concurrent.futures
import hashlib
import json
import pathlib
import random

from bert_tpu.core import command, worker_process

with command.imports():
    import tqdm

    from bert_tpu.core import storage
    from bert_tpu.tools import collect_docs

PACKAGES = ("flax", "jax", "keras", "numpy")
ROWS = {"train": 500, "validation": 100}  # of each package
VALIDATION = 6  # one module of so many is for validation


def collect(out: str) -> dict[str, int]:
    """Writes both files to the folder `out`; returns the number of rows of each."""
    modules = []
    for package in PACKAGES:
        (distribution,) = [each for each in collect_docs.closure([package]) if each.name.lower() == package]
        modules += [(package, path) for path in collect_docs.files(distribution)]
    seen: set[str] = set()
    split: dict[str, dict[str, list[str]]] = {name: {package: [] for package in PACKAGES} for name in ROWS}
    with concurrent.futures.ProcessPoolExecutor(initializer=worker_process.start) as pool:
        results = pool.map(collect_docs.prose, [path for _, path in modules], chunksize=64)
        for (package, path), paragraphs in zip(modules, tqdm.tqdm(results, "paragraphs", len(modules)), strict=True):
            new = [p for p in dict.fromkeys(paragraphs) if p not in seen]
            seen.update(new)
            name = path.split("site-packages")[-1]
            is_validation = int.from_bytes(hashlib.sha256(name.encode()).digest()) % VALIDATION == 0
            split["validation" if is_validation else "train"][package] += new
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
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
        storage.write_text(folder / f"{name}.jsonl", "".join(lines))
        sizes[name] = len(rows)
    return sizes


def main() -> None:
    """Collects and prints how much."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--out", required=True, type=storage.local, help="directory to write to")
    args = parser.parse_args()
    sizes = collect(args.out)
    print(
        f"{args.out}: {', '.join(f'{rows:,} rows of {name}' for name, rows in sizes.items())}, {len(PACKAGES)} classes"
    )


if __name__ == "__main__":
    command.run(main)
