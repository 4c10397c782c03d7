"""Text from elsewhere: data sets of TensorFlow and of the Hugging Face Hub, damaged, with faults on the way."""

import contextlib
import functools
import io
import os
import pathlib
import tempfile
import time
from unittest import mock

from helpers import fake_hub
from hypothesis import strategies as st

from bert_tpu.core import command, hub_requests
from bert_tpu.readers import sources, tfds
from fuzz import damaged, targets_text
from fuzz.target import Target

ROWS = {"train": [("A cat sat.\n\nIt ran.", 1), ("Zoë 🙂", 0)], "test": [("The dog.", -1)]}
CLASSES = ("no", "yes")


@functools.cache
def _prepared():
    """Name of a file -> bytes of a data set of TensorFlow."""
    command.quiet_tensorflow()
    import tensorflow_datasets

    core, features = tensorflow_datasets.core, tensorflow_datasets.features
    with core.registered.skip_registration():

        class Tiny(core.GeneratorBasedBuilder):
            VERSION = core.Version("1.0.0")
            code_path = None  # the library would look for a package that is not installed

            def _info(self):
                kinds = {"text": features.Text(), "label": features.ClassLabel(names=CLASSES)}
                return core.DatasetInfo(builder=self, features=features.FeaturesDict(kinds), disable_shuffling=True)

            def _split_generators(self, dl_manager):
                return {
                    split: enumerate({"text": text, "label": label} for text, label in rows)
                    for split, rows in ROWS.items()
                }

            def _generate_examples(self):
                raise NotImplementedError

    with tempfile.TemporaryDirectory() as folder, _silent():
        Tiny(data_dir=folder).download_and_prepare(file_format="tfrecord")
        return {path.name: path.read_bytes() for path in pathlib.Path(folder, "tiny/1.0.0").iterdir()}


@contextlib.contextmanager
def _silent():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@st.composite
def _data_sets(draw):
    """Draws (name of a file, its damaged bytes or None for no such file)."""
    name = draw(st.sampled_from(sorted(_prepared())))
    return name, draw(st.none() if draw(st.integers(0, 9)) == 0 else damaged.edits(st.just(_prepared()[name])))


def _check_data_set(drawn):
    """A damaged data set is refused, or its texts and labels are those that were written."""
    name, raw = drawn
    with tempfile.TemporaryDirectory() as folder, _silent():
        path = pathlib.Path(folder, "tiny/1.0.0")
        path.mkdir(parents=True)
        for file, content in (_prepared() | {name: raw}).items():
            if content is not None:
                (path / file).write_bytes(content)
        where = f"tfds:tiny?data_dir={folder}"
        texts = [document.text for document in sources.documents(sources.find([where]), sources.Counts())]
        assert texts == [text.replace("\n\n", "\n") for text, _ in ROWS["train"]] or texts == [
            text for text, _ in ROWS["train"]
        ], texts
        columns = tfds.tables(where, ("text", "label"))
    for split, rows in ROWS.items():
        assert columns[split]["text"] == [text for text, _ in rows]
        if name != "label.labels.txt":  # in which another word is as good
            assert columns[split]["label"] == [CLASSES[label] if label >= 0 else None for _, label in rows]


PASSING = (500, 502, 503, 429, 408)  # statuses that a Hub in trouble sends
BODIES = (
    b"", b"{}", b"[]", b"null", b"<html>A proxy asks you to log in.</html>", b'{"sha": 1}', b'{"id": "owner/name"}',
    b'[{"path": 1}]', b"{",
)  # fmt: skip


@st.composite
def _repositories(draw):
    """Draws ({path: bytes}, pattern, faults of listings, faults of content)."""
    names = st.sampled_from(("a.txt", "data/b", "data/x y.jsonl", "data/[c].gz", "é/#1%?.txt"))
    files = draw(st.dictionaries(names, damaged.edits(targets_text.whole_files()), min_size=1, max_size=2))
    pattern = draw(st.sampled_from(("**", "**", "**", "*", "data/*", "data/**", *files)))
    statuses = st.sampled_from((*PASSING, 400, 401, 403, 404, 416))
    listing = draw(st.lists(statuses | st.sampled_from(BODIES), max_size=draw(st.sampled_from((0, 0, 2)))))
    faults = statuses | st.sampled_from((*BODIES, "cut", "short"))
    content = draw(st.lists(faults, max_size=draw(st.sampled_from((0, 2)))))
    return files, pattern, listing, content


@functools.cache
def _server():
    return fake_hub.Hub()


def _check_repository(drawn):
    """A file on the Hub is read as the same file on disk, or refused if the way to it fails."""
    files, pattern, listing, content = drawn
    hub = _server()
    commit = hub.commit(files)
    hub.listing_faults.clear()
    hub.faults.clear()
    hub.listing_faults.extend(listing)
    hub.faults.extend(content)
    is_online = mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with mock.patch.dict(os.environ, hub.environment()), is_online, mock.patch.object(time, "sleep"), _silent():
        os.environ.pop("HF_TOKEN", None)  # which mock puts back
        hub_requests.files.cache_clear()
        listed = sources.find([f"hf://datasets/{fake_hub.NAME}/{pattern}"])
        texts = [document.text for document in sources.documents(listed, sources.Counts())]
    assert {source.commit for source in listed} == {commit}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, source in enumerate(listed):
            inside = source.path.removeprefix(f"hf://datasets/{fake_hub.NAME}/")
            paths.append(pathlib.Path(folder, str(number), pathlib.PurePath(inside).name))
            paths[-1].parent.mkdir()
            paths[-1].write_bytes(files[inside])
        local = [source for path in paths for source in sources.find([str(path).replace("[", "[[]")])]
        assert texts == [document.text for document in sources.documents(local, sources.Counts())]


def targets():
    """The targets of this file."""
    return [
        Target("TensorFlow data sets", _data_sets(), _check_data_set, 0.3, _prepared),
        Target("files on the Hub", _repositories(), _check_repository, 0.3),
    ]
