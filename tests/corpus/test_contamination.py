"""Sentences that are test text are detected, and sentences that only look like it are not."""

import json

import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import contamination, sentences, store
from bert_tpu.tokenizer import encoding, vocab, wordpiece

WORDS = [f"{a}{b}" for a in ("bran", "stel", "lum", "ork", "tind") for b in ("da", "ko", "mi", "pur", "sel")]
VOCABULARY = vocab.Vocab((*wordpiece.LAYOUT, ".", ",", *WORDS), True)
LONG = " ".join(WORDS[:20]) + "."
SHORT = " ".join(WORDS[5:14]) + "."
TINY = " ".join(WORDS[3:6]) + "."


@pytest.fixture(scope="module")
def encoder():
    return encoding.Encoder(VOCABULARY)


@pytest.fixture
def passages(tmp_path, encoder):
    (tmp_path / "test.tsv").write_text(f"index\tsentence\n0\t{LONG} {TINY}\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "dev.json").write_text(json.dumps({"data": [{"context": SHORT}]}))
    (tmp_path / "train.tsv").write_text(" ".join(WORDS[::-1]))
    return contamination.gather(contamination.files(tmp_path), encoder.encode)


def detected(passages, encoder, text):
    codes = encoder.encode(sentences.split(text))
    lengths = np.array([len(code) // 2 for code in codes], np.uint32)
    shard = store.Shard(
        np.frombuffer(b"".join(codes), np.uint16), lengths, np.array([len(codes)], np.uint32), np.zeros(1, np.uint32)
    )
    return contamination.is_test_text(passages, shard).tolist()


def test_a_run_of_test_text_or_a_whole_short_sentence_is_detected(passages, encoder):
    inside = " ".join([*WORDS[9:12], *WORDS[:16], WORDS[24]]) + "."
    assert detected(passages, encoder, inside.upper()) == [True]
    assert detected(passages, encoder, f"{SHORT} {LONG}") == [True, True]


def test_less_than_a_run_a_part_of_a_sentence_and_training_text_are_not(passages, encoder):
    nearly = " ".join([*WORDS[:15], WORDS[24], *WORDS[16:20]]) + "."
    longer = " ".join(WORDS[5:15]) + "."
    for text in (nearly, longer, TINY, " ".join(WORDS[::-1])):
        assert detected(passages, encoder, text) == [False]


def test_a_run_does_not_reach_over_the_end_of_a_sentence(passages, encoder):
    assert detected(passages, encoder, " ".join(WORDS[:12]) + ". " + " ".join(WORDS[12:20]).capitalize() + ".") == [
        False, False,
    ]  # fmt: skip


def test_every_kind_of_file_is_read(tmp_path, encoder):
    (tmp_path / "a.csv").write_text(f'1,"{LONG}"\n')
    (tmp_path / "b.jsonl").write_text(json.dumps([SHORT]) + "\n\n")
    (tmp_path / "c.txt").write_text("\ufeff" + " ".join(WORDS[10:19]) + ".\r\n")
    passages = contamination.gather(contamination.files(tmp_path), encoder.encode)
    for text in (LONG, SHORT, " ".join(WORDS[10:19]) + "."):
        assert detected(passages, encoder, text) == [True]


def test_a_folder_without_test_data_and_broken_json_are_named(tmp_path, encoder):
    (tmp_path / "train.tsv").write_text(LONG)
    with pytest.raises(command.UserError, match="holds no test data"):
        contamination.files(tmp_path)
    (tmp_path / "dev.json").write_text("{")
    with pytest.raises(command.UserError, match=r"dev\.json is not valid JSON"):
        contamination.gather(contamination.files(tmp_path), encoder.encode)
    (tmp_path / "dev.json").unlink()
    (tmp_path / "dev.jsonl").write_text("{")
    with pytest.raises(command.UserError, match=r"dev\.jsonl is not valid JSON"):
        contamination.gather(contamination.files(tmp_path), encoder.encode)
