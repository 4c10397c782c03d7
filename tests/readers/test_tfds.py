"""TensorFlow data sets give their texts in order, or an error says what is wrong with the name."""

import shutil

from helpers.text_sources import DOCUMENTS, read
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.readers import sources, tfds


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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a data set with texts and classes."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")

    class Classes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            kinds = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
            features = tfds.features.FeaturesDict(kinds)
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": enumerate({"text": text, "label": 1} for text in DOCUMENTS)}

        def _generate_examples(self):
            raise NotImplementedError

    tfds.core.registered._DATASET_REGISTRY.pop("classes")  # as for a user, who has the files alone
    Classes(data_dir=folder).download_and_prepare(file_format="tfrecord")
    return folder


DATA = "classes-train.tfrecord-00000-of-00001"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (DATA, lambda raw: raw[:-5]),
        (DATA, lambda raw: b""),
        (DATA, lambda raw: raw[:30] + b"\0" + raw[31:]),
        (DATA, None),
        ("dataset_info.json", lambda raw: raw[:-5]),
        ("dataset_info.json", lambda raw: b"null"),
        ("dataset_info.json", lambda raw: raw.replace(b'"splits"', b'"split"')),
        ("dataset_info.json", None),
        ("features.json", lambda raw: raw[:-5]),
        ("features.json", lambda raw: b"null"),
        # In these two rows would get classes 0 and 1 without a word.
        ("label.labels.txt", lambda raw: b"no\n"),
        ("label.labels.txt", lambda raw: raw + b"maybe\n"),
    ],
)
def test_a_damaged_data_set_is_refused_in_a_sentence(prepared, tmp_path, name, damage):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    path, query = tmp_path / "classes/1.0.0" / name, f"tfds:classes?data_dir={tmp_path}"
    assert tfds.tables(query, ("text", "label"))["train"] == {
        "text": DOCUMENTS, "label": ["yes"] * len(DOCUMENTS)
    }  # fmt: skip
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(command.UserError, match=r"prepare it again by `tfds build`|is not on this machine"):
        tfds.tables(query, ("text", "label"))
    if name != "label.labels.txt":
        with pytest.raises(command.UserError, match="`tfds build`"):
            read(query)
