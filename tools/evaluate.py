"""Evaluates an exported model with mteb or EuroEval, under their own names of tasks.

bert-tpu evaluate --model DIR --with mteb --tasks STSBenchmark Banking77Classification --out OUT

bert-tpu evaluate --model DIR --with euroeval --tasks sst5 conll-en --out OUT

mteb judges the vectors of texts. Those of DIR are as sentence-transformers reads it: means over all tokens, unless
bert-tpu export --sentence-transformers cls wrote it. EuroEval fine-tunes the model on each data set. A name may be a
task or a benchmark of mteb, and a data set or a task of EuroEval, of which also your own in ./custom_datasets.py. The
data come from the Hugging Face Hub, or from its cache on this machine with HF_HUB_OFFLINE=1.

OUT gets the library's own files and scores.json. The same command continues after a stop.
"""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import json_files, storage
    from bert_tpu.huggingface import upload

NEEDED = ("config.json", "model.safetensors", "tokenizer.json")
FILE = "scores.json"
SHAPE = {"weights_sha256": str, "with": str, "scores": {str: {str: float}}}


def main() -> None:
    """Evaluates the model, writes OUT/scores.json and prints a table."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="directory written by bert-tpu export")
    parser.add_argument("--with", required=True, choices=("mteb", "euroeval"), dest="library", help="the library")
    parser.add_argument("--tasks", nargs="+", required=True, help="tasks, by the library's names for them")
    parser.add_argument("--out", required=True, type=storage.local, help="directory for the results of this model")
    parser.add_argument("--batch_size", type=int, help="mteb: rows computed at a time (default: 64)")
    parser.add_argument(
        "--iterations", type=int, help="EuroEval: fine-tunings of each data set (default: EuroEval's, 10)"
    )
    args = parser.parse_args()
    number = _number(args)
    _require(args.library)
    model, out = Path(args.model).absolute(), Path(args.out).absolute()
    missing = [name for name in NEEDED if not (model / name).is_file()]
    if missing:
        raise command.UserError(f"{args.model} has no {', no '.join(missing)}: give a directory of bert-tpu export")
    digest = fingerprint(model)
    earlier = json_files.read_if_any(out / FILE, SHAPE)
    if earlier and (earlier["weights_sha256"], earlier["with"].split()[0].lower()) != (digest, args.library):
        raise command.UserError(f"{args.out} has the results of another model or library: give another --out")
    scores, label = evaluate(args, number, model, out, digest)
    content = {"weights_sha256": digest, "with": label, "scores": earlier.get("scores", {}) | scores}
    storage.write_text(out / FILE, json.dumps(content, indent=1) + "\n")
    width = max(map(len, scores))
    for task, metrics in scores.items():
        print(f"{task:{width}}  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    print(f"{out / FILE}: {label}")


def _number(args: Any) -> int:
    """Returns the library's number: mteb's rows at a time, or EuroEval's fine-tunings. UserError for the other's."""
    numbers = {"mteb": ("batch_size", 64), "euroeval": ("iterations", 10)}
    for library, (option, _) in numbers.items():
        value = getattr(args, option)
        if value is not None and library != args.library:
            raise command.UserError(f"--{option} is for --with {library} alone: leave it out with {args.library}")
        if value is not None and value < 1:
            raise command.UserError(f"--{option} {value}: give 1 or more")
    option, default = numbers[args.library]
    return getattr(args, option) or default


def _require(library: str) -> None:
    if library == "mteb":
        command.require("--with mteb", "mteb", "sentence_transformers", extra="mteb")
    elif importlib.util.find_spec(library) is None:
        from bert_tpu.tools import _evaluate_euroeval

        raise command.UserError(
            "--with euroeval needs EuroEval, whose requirements differ from those of bert_tpu's extras: "
            f"{_evaluate_euroeval.ENVIRONMENT}"
        )


def evaluate(args: Any, number: int, model: Path, out: Path, digest: str) -> tuple[dict[str, dict[str, float]], str]:
    """Returns task -> metric -> score, and the library's release.

    number: mteb's rows at a time, or EuroEval's fine-tunings of a data set
    model: the exported directory
    out: the folder of --out, in which only results of this model may be, because the libraries do not tell two apart
    digest: the model's fingerprint
    """
    if args.library == "mteb":
        from bert_tpu.tools import _evaluate_mteb as library
    else:
        from bert_tpu.tools import _evaluate_euroeval as library

        library.check(model)
    tasks = library.find(args.tasks)
    label = library.version()
    if not (out / FILE).exists():  # before the first result, so that a later start compares the model
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise command.UserError(f"{args.out} is not empty and has no {FILE}: give another --out")
        storage.write_text(
            out / FILE, json.dumps({"weights_sha256": digest, "with": label, "scores": {}}, indent=1) + "\n"
        )
    return library.run(model, tasks, out, number), label


def fingerprint(model: Path) -> str:
    """Returns a SHA-256 over the names and contents of a directory's files, all but the card and the ONNX files."""
    digest = hashlib.sha256()
    for path in upload.files(model):
        name = path.relative_to(model).as_posix()
        if name != upload.CARD and not name.startswith("onnx/"):
            with path.open("rb") as file:
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    command.run(main)
