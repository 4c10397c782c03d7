"""Functions that prepare corpora from random documents, kill such runs, and read the results."""

from pathlib import Path
import random
import signal
import subprocess
import sys
import time

import numpy as np

from bert_tpu.corpus import store
from bert_tpu.tokenizer import vocab, wordpiece
from helpers import warm_processes

WORDS = [a + b + c for a in ("br", "st", "l") for b in "aeiou" for c in ("nk", "mp", "sh", "t")]
VOCABULARY = vocab.Vocab((*wordpiece.LAYOUT, *"abcdefgh.,!", *WORDS[:50]), True)


def document(seed: int) -> str:
    """Returns a document of about a hundred words, in sentences and paragraphs."""
    draw = random.Random(seed)
    names = (" ".join(draw.choices(WORDS, k=9)).capitalize() for _ in range(12))
    return "\n".join(f"{name}. {next(names)}!" for name in names)


def arguments(text: Path, out: Path) -> list[str]:
    """Returns the command line of tools.prepare_corpus in a fresh process."""
    return [sys.executable, "-m", *words(text, out)]


def words(text: Path, out: Path) -> list[str]:
    """Returns a short command line: text.txt and tokenizer/ in `text` become a corpus in `out`."""
    return ["tools.prepare_corpus", "--input", str(text / "text.txt"),
            "--tokenizer", str(text / "tokenizer"), "--out", str(out), "--heldout", "0.05",
            "--workers", "2", "--duplicates", "keep"]  # fmt: skip


def files(directory: Path) -> dict[str, bytes]:
    """Returns the bytes of a folder's files by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def contents(lock: store.Lock, split: str) -> list[list[list[int]]]:
    """Returns a split's documents, which are lists of sentences, which are lists of ids."""
    shard = store.load(lock, lock.splits[split])
    tokens = np.split(shard.tokens, np.cumsum(shard.sentences)[:-1])
    ends = np.cumsum(shard.documents).tolist()
    starts = [0, *ends[:-1]]
    return [[s.tolist() for s in tokens[a:b]] for a, b in zip(starts, ends, strict=True)]


def kill_when(text: Path, out: Path, pattern: str, number: int) -> bool:
    """Kills a run once `out` has `number` files that match `pattern`; returns False if the run ended before."""
    run = subprocess.Popen(arguments(text, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and len(list(out.glob(pattern))) < number:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    return run.wait() == -signal.SIGKILL


def ended(words: list[str]) -> tuple[int, str]:
    """Returns the exit code and the standard error of `python -m WORD...`."""
    run = warm_processes.run(words[0], words[1:])
    return run.returncode, run.stderr
