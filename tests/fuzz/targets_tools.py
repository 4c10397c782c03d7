"""Files that the smaller commands read: exports, fine-tunings, demos and requirements, damaged."""

import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
import time
from unittest import mock

from helpers import fake_hub, small_bert
from hypothesis import strategies as st

from bert_tpu.core import command
from fuzz import command_world, damaged, targets_commands
from fuzz.target import Target
from tools import collect_docs, compare_transformers, demo_report, push_to_hub


@functools.cache
def _export():
    """File name -> bytes of an exported model."""
    model = small_bert.saved_once()
    return {path.name: path.read_bytes() for path in model.iterdir()} | {"README.md": b"---\nlicense: mit\n---\n"}


@contextlib.contextmanager
def _folder(files):
    """A directory `x` with these files: name -> bytes, or None for none."""
    with tempfile.TemporaryDirectory() as folder:
        for name, raw in files.items():
            if raw is not None:
                path = pathlib.Path(folder, "x", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
        yield pathlib.Path(folder, "x")


def _one_damaged(whole):
    """Strategy of {name: bytes}: `whole`, a function of it, with one file damaged or missing."""

    @st.composite
    def files(draw):
        name = draw(st.sampled_from(sorted(whole())))
        ways = [damaged.edits(st.just(whole()[name]))]
        if name.endswith(".json"):
            ways += [damaged.json_edits(st.just(whole()[name]))] * 2
        return whole() | {name: draw(st.none() if draw(st.integers(0, 9)) == 0 else st.one_of(ways))}

    return files()


REPOSITORIES = ("me/b",) * 6 + ("b", "a/b/c", "a..b", "me/", "/b", "me/b\n", "é/b", "", "-a/b", "me/" + "b" * 100)
TOKENS = ("hf_x",) * 6 + ("", " hf_x\n", "hf_é", "a b", "a\nb", "\x7f")
FAULTS = st.lists(
    st.sampled_from((400, 401, 403, 404, 409, 413, 429, 500, b"", b"{}", b"[]", b"null", b"<html>", b'{"files": 1}')),
    max_size=2,
)  # fmt: skip


@functools.cache
def _hub():
    return fake_hub.Hub()


def _check_upload(drawn):
    """The Hub gets the directory that was given, or one sentence says what is wrong. Only --push uses the network."""
    files, repository, token, faults, pushes = drawn
    hub = _hub()
    hub.models.by_name.clear()
    hub.listing_faults.clear()
    hub.listing_faults.extend(faults)
    hub.requests.clear()
    online = mock.patch.multiple("huggingface_hub.constants", HF_HUB_OFFLINE=False, HF_HUB_DISABLE_XET=True)
    environment = hub.environment() | {"HF_TOKEN": token}
    with _folder(files) as model, mock.patch.dict(os.environ, environment), online:
        words = "--model", model, f"--repo={repository}", *(["--push"] if pushes else [])
        with mock.patch.object(time, "sleep"):
            printed = targets_commands.output(push_to_hub, *words)
    present = {name: raw for name, raw in files.items() if raw is not None}
    assert f"{len(present)} files" in printed
    if pushes:
        assert {name: model.files() for name, model in hub.models.by_name.items()} == {repository: present}
    else:
        assert not hub.requests


@functools.cache
def _tuned():
    return command_world.tuning("../model", "../data")


def _check_comparison(drawn):
    """A fine-tuning of which all is there gives one row for each score, the same ones each time."""
    files, is_repeated = drawn
    if not is_repeated:
        files = files | {compare_transformers.SAVED: None}
    train = mock.patch.object(compare_transformers, "_train", return_value=command_world.SCORES)
    with _folder(files) as directory, train:
        directory.mkdir(exist_ok=True)
        shutil.copytree(small_bert.saved_once(), directory.parent / "model")
        command_world.write_rte(directory.parent / "data")
        with contextlib.chdir(directory):
            printed = targets_commands.output(compare_transformers, directory)
            assert printed == targets_commands.output(compare_transformers, directory)
    assert printed.count("\n") == 2 + sum(map(len, command_world.SCORES.values())), printed


@functools.cache
def _demo():
    """Name -> bytes of the files of a demo: its run, corpus and model."""
    files = command_world.files("run", "corpus", "export")
    return {name: raw for name, raw in files.items() if name.endswith((".json", ".jsonl", "model.safetensors"))}


def _check_demo(files):
    """A demo is reported the same each time, with each length's last evaluation."""
    with _folder(files) as folder:
        words = "--workdir", folder / "run", "--corpus", folder / "corpus", "--model", folder / "export"
        printed = targets_commands.output(demo_report, *words)
        assert "nats" in printed
        assert printed.count("[MASK]") == len(demo_report.SENTENCES)


REQUIREMENTS = (
    "tqdm", "packaging>=20  # a note", "-r other.txt", "# only a note", "", "tqdm==1 ; python_version < '3'",
    "nowhere-at-all", "tqdm ==== 1", "https://host/x.whl", "tqdm @ file:///x", "a b", "é", "tqdm[extra]",
    "--hash=sha256:0", "tqdm \\", "  ", "=", "[", "\x00",
)  # fmt: skip


def _check_requirements(raw):
    """The text of the packages is written, the same each time; or nothing is."""
    pool = mock.patch.object(collect_docs.concurrent.futures, "ProcessPoolExecutor", targets_commands.InThisProcess)
    with _folder({"requirements.txt": raw}) as folder, pool:
        words = "--requirements", folder / "requirements.txt", "--out"
        try:
            targets_commands.output(collect_docs, *words, folder / "a.txt")
        except command.UserError:
            assert not (folder / "a.txt").exists()
            raise
        targets_commands.output(collect_docs, *words, folder / "b.txt")
        first = (folder / "a.txt").read_bytes()
        assert first == (folder / "b.txt").read_bytes()
        assert first.strip()


def targets():
    """The targets of this file."""
    lines = st.sampled_from(REQUIREMENTS[:6]) | st.sampled_from(REQUIREMENTS)
    requirements = st.lists(lines, min_size=1, max_size=4).map(lambda lines: "\n".join(lines).encode())
    upload = st.tuples(
        _one_damaged(_export), st.sampled_from(REPOSITORIES), st.sampled_from(TOKENS), FAULTS, st.booleans()
    )
    return [
        Target("uploads", upload, _check_upload, 0.4),
        Target("comparisons", st.tuples(_one_damaged(_tuned), st.booleans()), _check_comparison, 0.3),
        Target("demos", _one_damaged(_demo), _check_demo, 0.15, _demo),
        Target("requirements", requirements | damaged.edits(requirements), _check_requirements, 0.2),
    ]
