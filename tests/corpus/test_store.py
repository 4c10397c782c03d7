"""A corpus is read as it was written; a damaged one is refused with a message that names the damage."""

import errno
import json
import os
import pickle
import shutil

from helpers import damage
import numpy as np
import pytest

from bert_tpu.core import command, storage
from bert_tpu.corpus import store
from bert_tpu.tokenizer import vocab, wordpiece

VOCABULARY = vocab.Vocab((*wordpiece.LAYOUT, "a", "b"), True)
SHARDS = {
    "train-00000.safetensors": store.Shard([104, 105, 105], [2, 1], [2], [0]),
    "train-00002.safetensors": store.Shard([105, 104, 103, 104], [1, 2, 1], [1, 2], [2, 1]),
    "heldout-00001.safetensors": store.Shard([104], [1], [1], [3]),
}


@pytest.fixture
def folder(tmp_path):
    """The folder of a small finished corpus."""
    vocab.save(VOCABULARY, tmp_path)
    infos = {name: store.write_shard(tmp_path / name, s)._asdict() for name, s in SHARDS.items()}
    content = {
        "format": store.FORMAT,
        "tokenizer": {"sha256": vocab.sha256(VOCABULARY), "vocab_size": 106, "lower": True},
        "train": {"shards": [infos[n] for n in infos if "train" in n], "unigram_entropy": 1.0},
        "heldout": {"shards": [infos[n] for n in infos if "heldout" in n]},
    }
    write_lock(tmp_path, content)
    return tmp_path


def write_lock(directory, content):
    content["sha256"] = store.digest(content)
    storage.write_bytes(directory / store.LOCKFILE, storage.json_bytes(content))


def edit_lock(directory, edit):
    content = json.loads((directory / store.LOCKFILE).read_text())
    edit(content)
    (directory / store.LOCKFILE).write_text(json.dumps(content))


def refused(directory) -> str:
    """The message of the UserError when all of a corpus is read."""
    with pytest.raises(command.UserError) as complaint:
        read_all(directory)
    return str(complaint.value)


def read_all(directory):
    lock = store.read(directory)
    return store.load(lock, lock.splits["train"])


def test_shards_come_back_joined_in_the_order_asked_for(folder):
    lock = store.read(folder)
    first, second = lock.splits["train"]
    whole = store.load(lock, [second, first])
    assert [array.dtype for array in whole] == [np.uint16, np.uint32, np.uint32, np.uint32]
    assert [array.tolist() for array in whole] == [
        [105, 104, 103, 104, 104, 105, 105],
        [1, 2, 1, 2, 1],
        [1, 2, 2],
        [2, 1, 0],
    ]
    assert (first.documents, first.texts, first.sentences, first.tokens) == (1, 1, 2, 3)
    assert first.bytes == (folder / first.file).stat().st_size
    assert (lock.vocab_size, lock.unigram_entropy) == (106, 1.0)
    assert lock.tokenizer_sha256 == vocab.sha256(VOCABULARY)
    assert [len(array) for array in store.load(lock, [])] == [0, 0, 0, 0]


def test_the_hash_of_a_corpus_covers_each_shard_and_the_tokenizer(folder):
    content = store.read(folder).content
    hashes = {store.digest(content)}
    for split in store.SPLITS:
        content[split]["shards"][0]["sha256"] = "0"
        hashes.add(store.digest(content))
    content["tokenizer"]["sha256"] = "0"
    hashes.add(store.digest(content))
    assert len(hashes) == 4


@pytest.mark.parametrize("name", [name for name in SHARDS if "train" in name])
def test_a_damaged_or_missing_shard_is_named(folder, name):
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(raw)
    assert name in refused(folder)
    assert "damaged" in refused(folder)
    (folder / name).write_bytes(raw[:-1])
    assert name in refused(folder)
    (folder / name).unlink()
    assert name in refused(folder)
    assert "missing" in refused(folder)


def test_an_unfinished_or_absent_corpus_is_refused_with_the_fix(folder):
    assert "does not exist; run bert-tpu prepare" in refused(folder / "nowhere")
    (folder / store.LOCKFILE).unlink()
    assert "is not a corpus, it has no corpus.json" in refused(folder)  # such as a folder of text
    (folder / store.PLAN).touch()
    assert "is not finished (no corpus.json); run bert-tpu prepare" in refused(folder)


def test_a_lockfile_that_is_cut_or_foreign_is_refused_in_a_sentence(folder):
    path = folder / store.LOCKFILE
    refused = damage.read_or_refused(lambda: store.read(folder), path)
    assert refused > path.stat().st_size - 2


def test_another_tokenizer_in_the_corpus_is_refused(folder):
    vocab.save(VOCABULARY._replace(pieces=(*VOCABULARY.pieces, "c")), folder)
    assert "not the one that the corpus was tokenized with" in refused(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.pop("format"),
        lambda content: content.pop("heldout"),
        lambda content: content["tokenizer"].pop("vocab_size"),
        lambda content: content["train"]["shards"].pop(),
        lambda content: content["train"]["shards"][0].pop("tokens"),
        lambda content: content["train"]["shards"][0].update(tokens=4),
        lambda content: content["train"].update(shards="none"),
    ],
)
def test_an_altered_lockfile_is_refused(folder, edit):
    edit_lock(folder, edit)
    assert store.LOCKFILE in refused(folder)


def test_a_corpus_of_the_first_format_is_refused_by_name(folder):
    edit_lock(folder, lambda content: content.update(format=1))
    assert "is a corpus of format 1 and this version reads format 2; prepare it again" in refused(folder)


def test_a_cut_lockfile_is_refused(folder):
    (folder / store.LOCKFILE).write_bytes((folder / store.LOCKFILE).read_bytes()[:-9])
    assert store.LOCKFILE in refused(folder)


def test_ids_outside_of_the_vocabulary_are_refused(folder):
    content = store.read(folder).content
    name = "train-00000.safetensors"
    bad = store.write_shard(folder / name, store.Shard([104, 106], [2], [1], [0]))
    content["train"]["shards"][0] = bad._asdict()
    write_lock(folder, content)
    assert name in refused(folder)
    assert "106" in refused(folder)


def test_equal_shards_give_equal_bytes(tmp_path):
    one = store.write_shard(tmp_path / "a", SHARDS["train-00002.safetensors"])
    two = store.write_shard(tmp_path / "b", SHARDS["train-00002.safetensors"])
    assert one._replace(file="b") == two
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch):
    path = tmp_path / "x"
    storage.write_bytes(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as fault:
        storage.write_bytes(path, b"new")
    message = command.sentence(pickle.loads(pickle.dumps(fault.value)))  # as from a worker
    assert message == f"the disk is full ({path}); free some space and run the same command again"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_cut_shard_is_refused_by_its_size_and_a_missing_one_may_be_another_host_s(corpus_dir, tmp_path):
    copy = store.read(shutil.copytree(corpus_dir, tmp_path / "corpus"))
    store.check_sizes(copy)
    (info, *_) = copy.splits["heldout"]
    with open(copy.directory / info.file, "r+b") as file:
        file.truncate(info.bytes - 1)
    with pytest.raises(command.UserError, match=rf"is damaged: it has {info.bytes - 1:,} bytes, not {info.bytes:,}"):
        store.check_sizes(copy)
    (copy.directory / info.file).unlink()
    store.check_sizes(copy)
