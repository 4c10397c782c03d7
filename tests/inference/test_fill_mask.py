"""Fill-mask gives the results of transformers' pipeline, without PyTorch and TensorFlow."""

import subprocess
import sys

from helpers import small_bert
import pytest
import tokenizers
import transformers

from bert_tpu.core import command
from bert_tpu.huggingface import hf
from bert_tpu.inference import fill_mask
from bert_tpu.tokenizer import added_tokens
from tools import fill_mask as tool

TEXTS = [
    "the cat [MASK] on the mat.",
    "[MASK]",
    "The DOG, it's [MASK]!",
    "the [MASK] was a very [MASK] tree",
    "[MASK] [MASK] [MASK] [MASK] [MASK] sat",
    "a zebra? \u00e9t\u00e9 \u4e2d [MASK]ing under [SEP] the [PAD] [MASK]",
    "the cat ran under the big red house, and the [MASK] dog ran on the mat.",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return small_bert.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def filler(directory):
    return fill_mask.load(directory)


@pytest.fixture(scope="module")
def pipeline(directory):
    return transformers.pipeline("fill-mask", str(directory), device="cpu")


@pytest.mark.parametrize("text", TEXTS)
def test_top_five_are_those_of_transformers(filler, pipeline, text):
    theirs = pipeline(text)
    theirs = theirs if text.count("[MASK]") > 1 else [theirs]
    ours = fill_mask.predict(filler, text)
    assert len(ours) == len(theirs) == text.count("[MASK]")
    for guesses, expected in zip(ours, theirs, strict=True):
        assert [guess[1:] for guess in guesses] == [(e["token_str"], e["sequence"]) for e in expected]
        assert [guess.score for guess in guesses] == pytest.approx([e["score"] for e in expected], abs=1e-4)


def test_probabilities_of_all_pieces_add_up_to_one(filler):
    [guesses] = fill_mask.predict(filler, "the [MASK]", top_k=len(small_bert.VOCAB.pieces))
    assert sum(guess.score for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_texts_of_up_to_32_tokens_share_one_program(filler):
    fill_mask.predict(filler, "[MASK]")
    programs = fill_mask._probabilities._cache_size()
    fill_mask.predict(filler, "[MASK] " * 4)
    fill_mask.predict(filler, "[MASK]" + " the" * 29)
    assert fill_mask._probabilities._cache_size() == programs


@pytest.mark.parametrize(
    ("text", "top_k", "complaint"),
    [
        ("no mask", 5, r"no \[MASK\] in 'no mask'"),
        ("the [mask]", 5, "in capitals"),
        ("[MASK]" + " the" * 46, 5, "49 tokens .* takes 48: shorten it"),
        ("[MASK]", 0, "top_k 0: give 1 to"),
        ("caf\udce9 [MASK]", 5, "not UTF-8 from character 4 on"),
        ("[MASK]", 1000, "top_k 1000: give 1 to"),
    ],
)
def test_a_wrong_text_or_top_k_is_refused(filler, text, top_k, complaint):
    with pytest.raises(command.UserError, match=complaint):
        fill_mask.predict(filler, text, top_k)


def test_text_as_long_as_the_model_is_filled(filler, pipeline):
    text = "[MASK]" + " the" * 45
    assert [g.piece for g in fill_mask.predict(filler, text)[0]] == [e["token_str"] for e in pipeline(text)]


def test_a_mask_of_another_name_is_written_either_way(filler, tmp_path):
    pieces = tuple("<mask>" if piece == "[MASK]" else piece for piece in small_bert.PIECES)
    renamed = small_bert.VOCAB._replace(pieces=pieces, specials=(*small_bert.VOCAB.specials[:4], "<mask>"))
    hf.save(tmp_path, small_bert.params(), small_bert.SECTION, renamed)
    other = fill_mask.load(tmp_path)
    texts = ("the [MASK] sat", "the <mask> sat")
    guesses = [[guess.piece for guess in fill_mask.predict(other, text)[0]] for text in texts]
    assert guesses == [[guess.piece for guess in fill_mask.predict(filler, texts[0])[0]]] * 2


def test_a_special_token_of_the_model_is_printed(filler, directory, tmp_path):
    token = added_tokens.from_library(tokenizers.AddedToken("[E1]", special=True), False)
    own = small_bert.VOCAB._replace(pieces=(*small_bert.PIECES, "[E1]"), added=(token,))
    params = small_bert.params(small_bert.SECTION | {"vocab_size": len(own.pieces)})
    params["mlm"]["bias"][-1] = 99
    hf.save(tmp_path, params, small_bert.SECTION | {"vocab_size": len(own.pieces)}, own)
    first, *_ = fill_mask.predict(fill_mask.load(tmp_path), "the [MASK] [E1] sat")[0]
    assert (first.piece, first.sequence) == ("[E1]", "the [E1] [E1] sat")


def test_encoder_without_an_mlm_head_is_refused(directory, tmp_path):
    transformers.BertModel.from_pretrained(directory).save_pretrained(tmp_path)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    with pytest.raises(command.UserError, match="without an MLM head"):
        fill_mask.load(tmp_path)


def test_command_needs_neither_pytorch_nor_tensorflow(directory):
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['torch', 'transformers', 'tensorflow']); "
        "runpy.run_module('tools.fill_mask', run_name='__main__')"
    )
    options = ["--model", str(directory), "--top_k", "2", "the [MASK] sat", "[MASK] and [MASK]"]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [
        "the [MASK] sat", "[MASK] and [MASK]  (1 of 2)", "[MASK] and [MASK]  (2 of 2)",
    ]  # fmt: skip
    assert len(lines) == 9


def test_command_refuses_in_one_sentence(directory, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fill_mask", "--model", str(directory), "no mask"])
    with pytest.raises(SystemExit, match=r"^error: no \[MASK\][^\n]+$"):
        command.run(tool.main)
