"""TensorFlow data sets give their texts in order, or an error says what is wrong with the name."""

from helpers.text_sources import DOCUMENTS, read
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.readers import sources


def test_a_data_set_gives_its_texts_in_order(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": enumerate({"text": text} for text in DOCUMENTS)}

        def _generate_examples(self):
            raise NotImplementedError

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    Tiny(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")
    listed = sources.find(["tfds:tiny"])
    assert listed == sources.find(["tfds:tiny:1.0.0"]) == sources.find([listed[0].path])
    counts = sources.Counts()
    assert [document.text for document in sources.documents(listed, counts)] == DOCUMENTS
    assert counts.read_bytes == listed[0].bytes > 0
    for name in ("tfds:no_such_data_set", "tfds:wikipedia/20230601.en", "tfds:tiny:2.0.0", "tfds:"):
        with pytest.raises(command.UserError, match=name):
            sources.find([name])


def test_a_query_selects_feature_and_split(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Books(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            texts = {
                "book_text": tfds.features.Text(),
                "title": tfds.features.Text(),
                "year": tfds.features.Scalar(np.int32),
            }
            features = tfds.features.FeaturesDict(texts)
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            examples = [{"book_text": text, "title": f"t{i}", "year": i} for i, text in enumerate(DOCUMENTS)]
            return {"train": enumerate(examples[:1]), "test": enumerate(examples[1:])}

        def _generate_examples(self):
            raise NotImplementedError

    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    Books(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")
    name = f"tfds:books?feature=book_text&data_dir={tmp_path}"
    assert read(name)[0] == DOCUMENTS[:1]
    (source,) = sources.find([f"{name}&split=test"])
    assert [d.text for d in sources.documents(sources.find([source.path]), sources.Counts())] == DOCUMENTS[1:]
    for words, complaint in (
        (f"tfds:books?data_dir={tmp_path}", "one of book_text, title"),
        (f"{name}&split=dev", "no split 'dev' but train, test"),
        (f"{name}&feature=year", "keys feature, split, data_dir|of text"),
        (f"{name}&shard=1", "keys feature, split, data_dir"),
    ):
        with pytest.raises(command.UserError, match=complaint):
            sources.find([words])
