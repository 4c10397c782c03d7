"""Files that the smaller commands read: programs, exports, fine-tunings, demos and requirements, damaged."""

import contextlib
import functools
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from unittest import mock

from helpers import fake_hub, small_bert
from hypothesis import strategies as st

from bert_tpu.core import command
from bert_tpu.planning import cost
from fuzz import command_world, damaged, targets_commands
from fuzz.target import Target
from tools import collect_docs, compare_transformers, demo_report, hlo_cost, push_to_hub


def run(module, *words):
    """What a command prints. Raises the UserError with which it ends."""
    output = io.StringIO()
    argv = mock.patch.object(sys, "argv", ["command", *map(str, words)])
    with argv, contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(output):
        try:
            module.main()
        except OSError as error:
            raise command.UserError(command.sentence(error)) from error
    return output.getvalue()


@st.composite
def _programs(draw):
    """Draws (HLO of a program with loops, calls and branches, its cycles)."""
    computations, number = [], 0

    def computation(depth):
        """(name, cycles) of a new computation."""
        nonlocal number
        number += 1
        name, cycles = f"c.{number}", 0
        lines = ["%x = s32[] parameter(0)"]
        for i in range(draw(st.integers(0, 2))):
            kind = draw(st.sampled_from(("add", "while", "call", "conditional"))) if depth else "add"
            if kind == "add":
                figure = draw(st.integers(0, 10**6))
                cycles += figure
                lines.append(f'%v.{i} = s32[] add(%x, %x), backend_config={{"estimated_cycles":"{figure}"}}')
            elif kind == "call":
                inner, spent = computation(depth - 1)
                cycles += spent
                lines.append(f"%v.{i} = s32[] call(%x), to_apply=%{inner}")
            elif kind == "conditional":
                branches = [computation(depth - 1) for _ in range(2)]
                cycles += max(spent for _, spent in branches)
                names = ", ".join(f"%{inner}" for inner, _ in branches)
                lines.append(f"%v.{i} = s32[] conditional(%x, %x, %x), branch_computations={{{names}}}")
            else:
                trips = draw(st.integers(0, 50))
                (test, asked), (body, spent) = computation(0), computation(depth - 1)
                cycles += trips * spent + (trips + 1) * asked
                note = f'backend_config={{"known_trip_count":{{"n":"{trips}"}}}}'
                lines.append(f"%v.{i} = s32[] while(%x), condition=%{test}, body=%{body}, {note}")
        entry = "ENTRY " if depth == DEPTH else ""
        body = "".join(f"  {line}\n" for line in lines)
        computations.append(f"{entry}%{name} (x: s32[]) -> s32[] {{\n{body}  ROOT %r = s32[] copy(%x)\n}}\n")
        return name, cycles

    _, cycles = computation(DEPTH)
    return "HloModule m, num_partitions=4\n\n" + "\n".join(computations), cycles


DEPTH = 3


def _check_program(drawn):
    """The cycles of a program are those that it was written with, and a cut text is refused."""
    (text, cycles), place = drawn
    assert cost.program_cost(text).cycles == cycles
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "p.hlo")
        path.write_text(text[: place % len(text)] if place else text)
        printed = run(hlo_cost, path, "--top", "3")
    assert f"{cycles / 1e6:.3f} M cycles executed" in printed, printed


PROGRAM = b"""HloModule m, num_partitions=4

%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,128] get-tuple-element(%p), index=1
  %by = s32[] constant(1)
  %next = s32[] add(%i, %by)
  %sum = f32[8,128] all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%f, metadata={op_name="a/layer_3"}
  %work = f32[8,128] fusion(%sum), kind=kLoop, calls=%f, backend_config={"estimated_cycles":"100"}
  ROOT %t = (s32[], f32[8,128]) tuple(%next, %work)
}

%condition (p.1: (s32[], f32[8,128])) -> pred[] {
  %p.1 = (s32[], f32[8,128]) parameter(0)
  %end = s32[] constant(7)
  %j = s32[] get-tuple-element(%p.1), index=0
  ROOT %go = pred[] compare(%j, %end), direction=LT
}

%f (a.1: f32[8,128]) -> f32[8,128] {
  %a.1 = f32[8,128] parameter(0)
  ROOT %g = f32[8,128] gather(%a.1, %a.1)
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %first = s32[] constant(0)
  %start = (s32[], f32[8,128]) tuple(%first, %a)
  %loop = (s32[], f32[8,128]) while(%start), condition=%condition, body=%body
  %slow = f32[8,128] fusion(%a), kind=kLoop, calls=%f
  %begun = (f32[8,128], f32[8,128]) all-gather-start(%a), dimensions={0}, replica_groups=[2,2]<=[4]
  %ended = f32[16,128] all-gather-done(%begun)
  ROOT %out = f32[8,128] get-tuple-element(%loop), index=1
}
"""


def _check_damaged_program(raw):
    """A damaged text is refused, or has a cost, the same one each time."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "p.hlo")
        path.write_bytes(raw)
        assert run(hlo_cost, path) == run(hlo_cost, path)


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
    hub.uploads.clear()
    hub.listing_faults.clear()
    hub.listing_faults.extend(faults)
    hub.requests.clear()
    constants = "huggingface_hub.constants.HF_HUB_OFFLINE"
    environment = hub.environment() | {"HF_TOKEN": token}
    with _folder(files) as model, mock.patch.dict(os.environ, environment), mock.patch(constants, False):
        words = "--model", model, f"--repo={repository}", *(["--push"] if pushes else [])
        with mock.patch.object(time, "sleep"):
            printed = run(push_to_hub, *words)
    present = {name: raw for name, raw in files.items() if raw is not None}
    assert f"{len(present)} files" in printed
    if pushes:
        assert hub.uploads == {repository: present}
    else:
        assert not hub.requests


SCORES = {"validation": {"accuracy": 0.5, "f1": 0.75}}


@functools.cache
def _tuned():
    """File name -> bytes of a fine-tuning, the repeated one's scores, and the data."""
    from bert_tpu.core import config
    from bert_tpu.training import workdir

    cfg = config.load("configs/glue.py:rte")
    cfg.update_from_flattened_dict({"init_from": "../model", "data.dir": "../data", "seeds": (0, 1), "max_length": 16})
    both = {"0": SCORES, "1": SCORES}
    summary = {
        split: {name: {"mean": 0.5, "std": 0.0, "best": 0.5} for name in scores} for split, scores in SCORES.items()
    }
    assert workdir.identity(cfg.to_dict())
    return {
        "config.json": json.dumps(cfg.to_dict() | {"task": {}, "bert": {}}, indent=1).encode(),
        "scores.json": json.dumps({"step": 3, "seeds": both, "summary": summary}).encode(),
        "transformers.json": json.dumps(both, indent=1).encode(),
    }


def _check_comparison(files):
    """A fine-tuning of which all is there gives one row for each score, the same ones each time."""
    from helpers import small_bert

    rows = "index\tsentence1\tsentence2\tlabel\n" + "".join(
        f"{i}\tthe cat sat\tthe dog ran\t{('entailment', 'not_entailment')[i % 2]}\n" for i in range(8)
    )
    with _folder(files) as directory, mock.patch.object(compare_transformers, "_train", return_value=SCORES):
        if not directory.is_dir():
            directory.mkdir()
        shutil.copytree(small_bert.saved_once(), directory.parent / "model")
        data = directory.parent / "data" / "RTE"
        data.mkdir(parents=True)
        for split in ("train", "dev"):
            (data / f"{split}.tsv").write_text(rows)
        with contextlib.chdir(directory):
            printed = run(compare_transformers, directory)
            assert printed == run(compare_transformers, directory)
    assert printed.count("\n") == 2 + sum(map(len, SCORES.values())), printed


@functools.cache
def _demo():
    """Name -> bytes of the files of a demo: its run, corpus and model."""
    files = command_world.files("run", "corpus", "export")
    return {name: raw for name, raw in files.items() if name.endswith((".json", ".jsonl", "model.safetensors"))}


def _check_demo(files):
    """A demo is reported the same each time, with each length's last evaluation."""
    with _folder(files) as folder:
        words = "--workdir", folder / "run", "--corpus", folder / "corpus", "--model", folder / "export"
        printed = run(demo_report, *words)
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
            run(collect_docs, *words, folder / "a.txt")
        except command.UserError:
            assert not (folder / "a.txt").exists()
            raise
        run(collect_docs, *words, folder / "b.txt")
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
    places = st.sampled_from((0, 0, 1)).flatmap(lambda cut: st.integers(1, 10**4) if cut else st.just(0))
    return [
        Target("programs, written", st.tuples(_programs(), places), _check_program, 0.3),
        Target("programs, damaged", damaged.edits(st.just(PROGRAM)), _check_damaged_program, 0.5),
        Target("uploads", upload, _check_upload, 0.4),
        Target("comparisons", _one_damaged(_tuned), _check_comparison, 0.3),
        Target("demos", _one_damaged(_demo), _check_demo, 0.15, _demo),
        Target("requirements", requirements | damaged.edits(requirements), _check_requirements, 0.2),
    ]
