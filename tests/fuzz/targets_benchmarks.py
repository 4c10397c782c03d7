"""Files of benchmarks, damaged: those of social bias, and test text that a corpus leaves out."""

import pathlib
import tempfile

from helpers import bias_benchmarks
from hypothesis import strategies as st

from bert_tpu.bias import crows_pairs, stereoset, winogender
from bert_tpu.corpus import benchmark_files
from fuzz import damaged
from fuzz.target import Target

TEST_TEXT = {
    "test.csv": b'id,text\n1,"A cat, and a dog."\n2,"He said ""no""."\n',
    "test.tsv": b"index\tsentence\n0\tIt's a charming film.\n1\tNo.\n",
    "dev.json": b'{"data": [{"paragraphs": [{"context": "A cat sat.", "qas": []}]}]}',
    "test.jsonl": b'{"text": "A cat sat."}\n{"text": "It ran."}\n',
    "test.txt": b"A cat sat.\n\nIt ran.\n",
    "test.conll": b"A O\ncat B-X\n. O\n\nIt O\n",
}


def _bias_files():
    """Name of a file -> (its reader, its bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        pairs = bias_benchmarks.write_crows(path / "crows.csv")
        examples = bias_benchmarks.write_stereoset(path / "dev.json")
        sentences = bias_benchmarks.write_winogender(path)
        return {
            "crows.csv": (crows_pairs.read, pairs.read_bytes()),
            "dev.json": (lambda file: stereoset.read([file]), examples.read_bytes()),
            "all_sentences.tsv": (winogender.read, (sentences / "all_sentences.tsv").read_bytes()),
            "occupations-stats.tsv": (winogender.read_shares, (sentences / "occupations-stats.tsv").read_bytes()),
        }


BIAS = _bias_files()


def _check_bias(drawn):
    """A damaged benchmark is refused, or has examples, the same ones each time."""
    name, raw = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(raw)
        first = BIAS[name][0](path)
        assert len(first) > 0
        assert first == BIAS[name][0](path)


def _check_test_text(drawn):
    """A damaged file of test text is refused, or gives texts that any tokenizer takes."""
    name, raw = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(raw)
        for text in benchmark_files.texts(path):
            text.encode()


def _damaged(files):
    return st.sampled_from(list(files)).flatmap(
        lambda name: st.tuples(st.just(name), damaged.edits(st.just(files[name])))
    )


def targets():
    """The targets of this file."""
    bias = {name: raw for name, (_, raw) in BIAS.items()}
    return [
        Target("bias benchmarks", _damaged(bias), _check_bias, 0.5),
        Target("test text", _damaged(TEST_TEXT), _check_test_text, 0.5),
    ]
