"""Each piece of a new vocabulary gets the row of the same old piece, or the mean of the old pieces of its text."""

import sys

from helpers import small_bert
import jax
import numpy as np
import pytest

from bert_tpu.huggingface import hf, new_vocabulary, pretrained
from bert_tpu.model import transformer
from bert_tpu.tokenizer import vocab
from bert_tpu.training import orbax_setup
from tools import import_pytorch

OLD = small_bert.VOCAB
ROW = {piece: i for i, piece in enumerate(OLD.pieces)}


@pytest.fixture(scope="module")
def model():
    return hf.Pretrained(small_bert.params(small_bert.SHALLOW), small_bert.SHALLOW, OLD, ())


def sources(*pieces, old=OLD, lower=True):
    """Names of the old pieces of each of `pieces`."""
    found = new_vocabulary.find_sources(old, vocab.Vocab((*vocab.SPECIALS, *pieces), lower))
    return [[old.pieces[i] for i in ids] for ids in found[len(vocab.SPECIALS) :]]


def test_pieces_come_from_the_old_pieces_of_their_text():
    assert sources("cat", "##ing", "catdog", "running", "Cat", "TREES", "##erred", "cat's", "##.") == [
        ["cat"], ["##ing"], ["cat", "##d", "##o", "##g"], ["r", "##u", "##n", "##n", "##ing"], ["cat"],
        ["tree", "##s"], ["##er", "##r", "##e", "##d"], ["cat", "'", "s"], ["."],
    ]  # fmt: skip


def test_a_piece_within_words_is_never_divided_into_one_that_begins_them():
    assert sources("##cat", "##it", "##theing") == [
        ["##c", "##a", "##t"], ["##i", "##t"], ["##t", "##h", "##e", "##ing"],
    ]  # fmt: skip
    # Unless nothing else has the text.
    short = vocab.Vocab((*vocab.SPECIALS, "cat", "a", "##b"), lower=True)
    assert sources("##cat", "##ab", "##b", old=short) == [["cat"], ["a", "##b"], ["##b"]]


def test_text_without_old_pieces_has_none_and_unused_slots_are_not_read_as_text():
    assert sources("中", "[unused3]", "éa", "中a") == [[], [], ["e", "##a"], ["a"]]
    with_slots = vocab.Vocab((*OLD.pieces, "[unused3]"), lower=True)
    assert sources("[unused3]", old=with_slots) == [["[unused3]"]]


def test_special_pieces_are_matched_by_what_they_are_for(model):
    order = ("[PAD]", "cat", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "dog")
    moved, counts = new_vocabulary.transfer(model, vocab.Vocab(order, lower=True))
    old_rows = [ROW[piece] for piece in order]
    np.testing.assert_array_equal(moved.params["embeddings"]["word"], model.params["embeddings"]["word"][old_rows])
    np.testing.assert_array_equal(moved.params["mlm"]["bias"], model.params["mlm"]["bias"][old_rows])
    assert counts == (7, 0, 0)
    assert moved.model["vocab_size"] == 7


def test_rows_and_biases_are_means_and_the_rest_stays(model):
    new = vocab.Vocab((*vocab.SPECIALS, "catdog", "中", "the"), lower=True)
    moved, counts = new_vocabulary.transfer(model, new)
    assert counts == (6, 1, 1)
    word, bias = model.params["embeddings"]["word"], model.params["mlm"]["bias"]
    ids = [ROW[piece] for piece in ("cat", "##d", "##o", "##g")]
    np.testing.assert_allclose(moved.params["embeddings"]["word"][5], word[ids].mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(moved.params["mlm"]["bias"][5], bias[ids].mean(), rtol=1e-5)
    np.testing.assert_allclose(moved.params["embeddings"]["word"][6], word.mean(0), rtol=1e-4, atol=1e-6)
    for part in ("layer_0", "pooler", "nsp"):
        jax.tree.map(np.testing.assert_array_equal, moved.params[part], model.params[part])
    assert {leaf.dtype for leaf in jax.tree.leaves(moved.params)} == {np.dtype(np.float32)}


def test_the_same_vocabulary_changes_nothing_and_another_order_gives_the_same_logits(model):
    same, counts = new_vocabulary.transfer(model, OLD)
    jax.tree.map(np.testing.assert_array_equal, same.params, model.params)
    assert counts == (len(OLD.pieces), 0, 0)
    order = np.r_[: len(vocab.SPECIALS), len(OLD.pieces) - 1 : len(vocab.SPECIALS) - 1 : -1]
    other, _ = new_vocabulary.transfer(model, vocab.Vocab(tuple(OLD.pieces[i] for i in order), lower=True))
    place = np.argsort(order)
    batch = small_bert.batch()

    def logits(loaded, ids):
        rows = ids, batch["token_type_ids"], batch["attention_mask"], batch["masked_positions"]
        return transformer.Bert(**loaded.model).apply({"params": loaded.params}, *rows).mlm_BMV

    ours, theirs = logits(model, batch["input_ids"]), logits(other, place[batch["input_ids"]])
    np.testing.assert_allclose(theirs, ours[:, :, order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", ["copied", "random"])
def test_rows_for_comparison_are_drawn(model, rows):
    new = vocab.Vocab((*vocab.SPECIALS, "catdog", "the"), lower=True)
    moved, _ = new_vocabulary.transfer(model, new, rows)
    word = moved.params["embeddings"]["word"]
    assert np.array_equal(word[6], model.params["embeddings"]["word"][ROW["the"]]) == (rows == "copied")
    assert 0 < np.abs(word[5]).max() <= 0.04  # two sigma
    assert moved.params["mlm"]["bias"][5] == 0


def test_a_checkpoint_is_moved_as_its_hugging_face_directory_is(model, tmp_path):
    start = pretrained.load(small_bert.workdir(tmp_path / "run", small_bert.SHALLOW))
    new = vocab.Vocab((*vocab.SPECIALS, "catdog", "the"), lower=True)
    (ours, _), (theirs, _) = (new_vocabulary.transfer(origin, new) for origin in (start, model))
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


def test_the_command_makes_a_start_for_a_corpus_of_the_new_vocabulary(tmp_path, monkeypatch, capsys):
    small_bert.save(tmp_path / "model", small_bert.SHALLOW)
    new = vocab.Vocab((*OLD.pieces[:-3], "catdog"), lower=True)
    vocab.save(new, tmp_path / "new")
    arguments = ["--model", tmp_path / "model", "--out", tmp_path / "ckpt", "--tokenizer", tmp_path / "new"]
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, arguments)])
    monkeypatch.setattr(orbax_setup, "quiet", lambda: None)
    import_pytorch.main()
    kept = len(new.pieces) - 1
    wanted = f"new: {kept} kept, 1 the mean of those of pieces with the same text, 0 the mean of all"
    assert wanted in capsys.readouterr().out
    assert pretrained.load_origin(tmp_path / "ckpt").vocabulary == new
    pretrained.check_same(tmp_path / "ckpt", small_bert.SHALLOW | {"vocab_size": len(new.pieces)}, new)
    assert len(pretrained.load(tmp_path / "ckpt").params["embeddings"]["word"]) == len(new.pieces)
