"""A bucket can have the text, the corpus and the scratch folder, and training reads from it. Here gs:// is a folder."""

from etils.epath import gpath
from helpers import fake_bucket, prepare_runs
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import prepare, store
from bert_tpu.data import corpus_stats, host_share
from bert_tpu.tokenizer import vocab


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", fake_bucket.Folder(tmp_path / "cloud"))
    (tmp_path / "cloud" / "b" / "text").mkdir(parents=True)
    for i in range(3):
        texts = "\n\n".join(prepare_runs.document(j) for j in range(50 * i, 50 * i + 50))
        (tmp_path / "cloud" / "b" / "text" / f"{i}.txt").write_text(texts)
    vocab.save(prepare_runs.VOCABULARY, tmp_path / "tokenizer")
    return tmp_path / "cloud" / "b"


def prepared(tmp_path, inputs, out, **options):
    return prepare.prepare([inputs], tmp_path / "tokenizer", out, workers=1, heldout=0.1, **options)


def test_a_corpus_in_a_bucket_is_the_one_on_a_disk(cloud, tmp_path):
    lock = prepared(tmp_path, "gs://b/text/*.txt", "gs://b/corpus", scratch=str(tmp_path / "scratch"))
    assert str(lock.directory) == "gs://b/corpus"
    local = prepared(tmp_path, str(cloud / "text" / "*.txt"), tmp_path / "local")
    assert lock.sha256 == local.sha256
    assert prepare_runs.files(cloud / "corpus") == prepare_runs.files(tmp_path / "scratch")
    assert corpus_stats.verify(store.read("gs://b/corpus")) == corpus_stats.verify(local)
    shares = [
        host_share.load(store.read(place), "train", batch_size=4) for place in ("gs://b/corpus", tmp_path / "local")
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*(share.text for share in shares), strict=True))
    # A second run changes nothing; another corpus is not overwritten.
    assert (
        prepared(tmp_path, "gs://b/text/*.txt", "gs://b/corpus", scratch=str(tmp_path / "scratch")).sha256
        == lock.sha256
    )
    with pytest.raises(command.UserError, match="gs://b/corpus holds another corpus"):
        prepared(tmp_path, "gs://b/text/0.txt", "gs://b/corpus", scratch=str(tmp_path / "other"))


@pytest.mark.parametrize("scratch", ["", "gs://b/scratch"])
def test_a_pipeline_works_in_the_bucket_itself(cloud, tmp_path, scratch):
    options = {"runner": "FnApiRunner", "duplicates": "near", "heldout": 0.1, "scratch": scratch}
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue" / "test.tsv").write_text(prepare_runs.document(3).replace("\n", "\t"))
    options["decontaminate"] = str(tmp_path / "glue")
    lock = prepare.prepare(["gs://b/text/*.txt"], tmp_path / "tokenizer", "gs://b/corpus", **options)
    assert str(lock.directory) == "gs://b/corpus"
    local = prepared(
        tmp_path, "gs://b/text/*.txt", tmp_path / "local", duplicates="near", decontaminate=str(tmp_path / "glue")
    )
    assert lock.content == local.content
    assert prepare_runs.files(cloud / "corpus") == prepare_runs.files(tmp_path / "local")
    if scratch:
        assert prepare_runs.files(cloud / "scratch") == prepare_runs.files(tmp_path / "local")
    # A second run changes nothing; the corpus of another text is not overwritten.
    assert prepare.prepare(["gs://b/text/*.txt"], tmp_path / "tokenizer", "gs://b/corpus", **options) == lock
    with pytest.raises(command.UserError, match="finished corpus of other inputs"):
        prepare.prepare(["gs://b/text/0.txt"], tmp_path / "tokenizer", "gs://b/corpus", **options)


def test_missing_options_and_files_of_a_bucket_are_named(cloud, tmp_path):
    with pytest.raises(command.UserError, match=r"--out gs://b/corpus is in a bucket: add --scratch"):
        prepared(tmp_path, "gs://b/text/*.txt", "gs://b/corpus")
    with pytest.raises(command.UserError, match=r"no file matches the input 'gs://b/text/\*.gz'"):
        prepared(tmp_path, "gs://b/text/*.gz", tmp_path / "out")
    with pytest.raises(command.UserError, match="corpus gs://b/none does not exist"):
        store.read("gs://b/none")
    prepared(tmp_path, "gs://b/text/*.txt", "gs://b/corpus", scratch=str(tmp_path / "scratch"))
    next((cloud / "corpus").glob("train-*")).unlink()
    with pytest.raises(command.UserError, match=r"shard gs://b/corpus/train-00000\.safetensors is missing"):
        corpus_stats.verify(store.read("gs://b/corpus"))
