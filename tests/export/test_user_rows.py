"""An export exists only if a user's texts and pairs get the same ids, types and masks from transformers' tokenizer."""

import json

from helpers import small_bert
import pytest

from bert_tpu.core import command
from bert_tpu.export import pytorch
from bert_tpu.huggingface import hf
from bert_tpu.tokenizer import vocab

WHOLE = small_bert.SHALLOW


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_bert.workdir(tmp_path_factory.mktemp("run"), WHOLE)


def keep_accents(content):
    content["normalizer"] = {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": False,
        "lowercase": True,
    }  # fmt: skip


def split_less(content):
    content["pre_tokenizer"] = {"type": "WhitespaceSplit"}


def one_type(content):
    for item in content["post_processor"]["pair"]:
        next(iter(item.values()))["type_id"] = 0


def shorter_words(content):
    content["model"]["max_input_chars_per_word"] = 30


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (keep_accents, "tokenizes 'Él com.*input_ids differ"),
        (split_less, "tokenizes 'The cat sat on the mat.' differently: input_ids"),
        (one_type, r"tokenizes 'Is it a cat\?' \+ 'Yes.* differently: token_type_ids"),
        (shorter_words, "tokenizes 'antidis"),
    ],
)
def test_a_tokenizer_that_gives_users_other_rows_is_not_exported(run, tmp_path, monkeypatch, edit, complaint):
    save = vocab.save

    def save_spoilt(vocabulary, directory, **options):
        save(vocabulary, directory, **options)
        path = directory / "tokenizer.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    monkeypatch.setattr(vocab, "save", save_spoilt)
    with pytest.raises(command.UserError, match=complaint):
        pytorch.export(run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_another_pad_token_is_not_exported(run, tmp_path, monkeypatch):
    save = hf.save

    def save_spoilt(directory, *args, **options):
        save(directory, *args, **options)
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if (directory / name).exists():
                content = json.loads((directory / name).read_text())
                (directory / name).write_text(json.dumps(content | {"pad_token": "[UNK]"}))

    monkeypatch.setattr(hf, "save", save_spoilt)
    with pytest.raises(command.UserError, match="gives the pad token the id 1 and not 0; nothing was exported"):
        pytorch.export(run, tmp_path / "model")


def test_texts_and_pairs_are_compared_next_to_random_rows(run, tmp_path):
    assert pytorch.export(run, tmp_path / "model").comparison.rows > pytorch.ROWS + 10
