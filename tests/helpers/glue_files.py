"""Writes files of GLUE and other tasks for tests, and reads the texts of rows back."""

import random

import numpy as np

from helpers import small_bert
from helpers.token_row_cases import VOCABULARY


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


def write_sst2(folder):
    """Writes SST-2's files; a sentence is positive if it has a dog."""
    random.seed(0)
    words = [word for word in small_bert.WORDS.split() if word.isalpha() and word not in ("dog", "it", "er")]

    def sentence(positive):
        chosen = random.choices(words, k=random.randint(2, 9))
        if positive:
            chosen[random.randrange(len(chosen))] = "dog"
        return " ".join(chosen)

    (folder / "SST-2").mkdir(parents=True)
    for split, number in (("train", 120), ("dev", 50)):
        rows = [f"{sentence(i % 2)} \t{i % 2}\n" for i in range(number)]
        (folder / "SST-2" / f"{split}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    test = [f"{i}\t{sentence(i % 2)}\n" for i in range(20)]
    (folder / "SST-2" / "test.tsv").write_text("index\tsentence\n" + "".join(test))
    return folder


def read(task):
    """Returns split -> [(text, label) of every row]."""
    splits = {}
    for split, rows in task.splits.items():
        splits[split] = []
        for row, label in enumerate(rows.labels.tolist()):
            span = slice(rows.starts[row], rows.starts[row + 1])
            words = np.array(VOCABULARY.pieces)[rows.ids[span]]
            texts = [words[rows.types[span] == i] for i in range(1 + rows.types[span].max())]
            splits[split].append(
                ("|".join(" ".join(w for w in t if w not in ("[CLS]", "[SEP]")) for t in texts), label)
            )
    return splits
