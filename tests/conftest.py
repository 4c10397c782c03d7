"""Sets up eight CPU devices for every test, and provides a small corpus prepared by the real code."""

import os
import signal

from helpers import quick_xla

from bert_tpu.core import storage

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&` sets this; tests of Ctrl-C need it back
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before JAX and TensorFlow are imported, because they read these only once.
os.environ["XLA_FLAGS"] = quick_xla.flags(devices=8)
os.environ["JAX_PLATFORMS"] = "cpu"
if "PYTEST_XDIST_WORKER" not in os.environ:  # one cache for all workers
    os.environ["JAX_COMPILATION_CACHE_DIR"] = quick_xla.make_cache_folder()
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow then loads no Keras at all
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # tests run side by side

import contextlib
import gc
import pathlib
import random

from helpers import warm_processes
import numpy as np
import pytest

from bert_tpu.corpus import dealing, prepare, store
from bert_tpu.data import chunks
from bert_tpu.tokenizer import vocab, wordpiece

FIRST_PLACED = 104  # ids below are special and unused ones, as BERT lays them out
ROOT = pathlib.Path(__file__).parent.parent


def pytest_configure(config):
    """Starts the process that commands are copies of, but not in the main process of xdist, which runs no test."""
    if not config.getoption("numprocesses", None):
        warm_processes.begin()


def pytest_collection_finish():
    """Enables garbage collection, which quick_xla disabled, now that all modules are imported."""
    gc.enable()


def write_text(path, *, documents, seed=0):
    """Writes documents of artificial words with Zipf's frequencies; favourite words of each let a model learn NSP."""
    random.seed(seed)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(600)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(documents):
            favourites = random.choices(words, k=30)
            for _ in range(random.randint(1, 12)):
                sentences = []
                for _ in range(random.randint(1, 6)):
                    length = random.randint(1, 25)
                    chosen = random.choices(words, weights, k=length) + random.choices(favourites, k=length // 2)
                    sentences.append(" ".join(chosen).capitalize() + ".")
                file.write(" ".join(sentences) + "\n")
            file.write("\n")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A file with about a megabyte of text, enough for several shards."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    write_text(path, documents=1000)
    return path


@pytest.fixture(scope="session")
def tokenizer_dir(text_file, tmp_path_factory):
    """A folder with a vocabulary of 400 pieces, trained on the text."""
    directory = tmp_path_factory.mktemp("tokenizer")
    lines = text_file.read_text().splitlines()
    vocab.save(wordpiece.train(lambda: lines, 400), directory)
    return directory


@pytest.fixture(scope="session")
def corpus_dir(text_file, tokenizer_dir, tmp_path_factory):
    """A folder with the text as a prepared corpus of a few shards."""
    directory = tmp_path_factory.mktemp("corpus") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dealing, "LEAST_TOKENS", 1 << 14)  # several shards, as in a large corpus
        prepare.prepare([str(text_file)], tokenizer_dir, directory, heldout=0.1, workers=1)
    return directory


@pytest.fixture(scope="session")
def lock(corpus_dir):
    """The corpus' lockfile."""
    return store.read(corpus_dir)


@pytest.fixture(scope="session")
def placed_lock(tmp_path_factory):
    """The lockfile of a corpus in which no token occurs twice, so that an id gives its place: FIRST_PLACED + place.

    It has eight shards of 12 documents, with sentences of 1 to 60 tokens and some of 200. All shards have the same
    lengths in another order, so they are as even as those of tools.prepare_corpus.
    """
    directory = tmp_path_factory.mktemp("placed")
    rng = np.random.default_rng(0)
    document_lengths = rng.integers(1, 30, 12)
    lengths = rng.integers(1, 60, document_lengths.sum())
    lengths[::50] = 200
    splits, start = {"train": [], "heldout": []}, FIRST_PLACED
    for split, shards in (("train", 8), ("heldout", 1)):
        for number in range(shards):
            documents, sentences = rng.permutation(document_lengths), rng.permutation(lengths)
            tokens = np.arange(start, start + sentences.sum())
            start += len(tokens)
            origins = np.arange(12) + 12 * number
            shard = store.Shard(tokens, sentences, documents, origins)
            splits[split].append(store.write_shard(directory / f"{split}-{number:05d}.safetensors", shard))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{i}]" for i in range(FIRST_PLACED - 5))]
    # Every third piece continues the word before it, for whole-word masking.
    pieces += [f"{'##' if i % 3 == 0 else ''}{i}" for i in range(start - FIRST_PLACED)]
    vocabulary = vocab.Vocab(tuple(pieces), lower=True)
    vocab.save(vocabulary, directory)
    content = {
        "format": store.FORMAT,
        "tokenizer": {"sha256": vocab.sha256(vocabulary), "vocab_size": len(pieces), "lower": True},
        **{split: {"shards": [info._asdict() for info in infos]} for split, infos in splits.items()},
    }
    content["train"]["unigram_entropy"] = 1.0
    storage.write_bytes(directory / store.LOCKFILE, storage.json_bytes(content | {"sha256": store.digest(content)}))
    return store.read(directory)


@pytest.fixture(scope="session")
def whole_text(placed_lock):
    """The training split in the order of the ids."""
    return chunks.make_text(store.load(placed_lock, placed_lock.splits["train"]))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A git checkout of the files that a pod receives, from the working tree, committed or not."""
    from helpers import fake_cloud

    return fake_cloud.checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def ready_pod(checkout, tmp_path_factory):
    """The folder of a Cloud whose pod is created and set up, to be copied by Cloud.up."""
    from helpers import fake_cloud

    with contextlib.closing(fake_cloud.Cloud(checkout, tmp_path_factory.mktemp("ready_pod"))) as cloud:
        cloud.do("create")
        cloud.do("setup")
    return cloud.folder


@pytest.fixture
def cloud(checkout, ready_pod, tmp_path):
    """A Cloud without a pod. Runs on its hosts are killed after the test."""
    from helpers import fake_cloud

    with contextlib.closing(fake_cloud.Cloud(checkout, tmp_path, ready_pod)) as cloud:
        yield cloud
