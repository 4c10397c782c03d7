"""The cost of small programs of the real compiler, compared with the work that they were written to do."""

import re
import sys

from helpers import tpu_programs
from helpers.compiled_programs import compiled, needs_libtpu
from helpers.tpu_programs import SIZE, TRIPS, WIDE
import pytest

from bert_tpu.hardware import chips
from bert_tpu.planning import cost, hlo, schedule
from tools import hlo_cost

BUFFER = 4 * SIZE * SIZE


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A function: name of a program -> its text."""
    directory = tmp_path_factory.mktemp("tpu_programs")
    done = compiled("tests/helpers/tpu_programs.py", directory, directory)
    assert not done.stderr  # libtpu's complaints are hidden from the user
    return lambda name: (directory / f"{name}.hlo").read_text()


def body_cycles(text, name):
    """The sum of the figures in one computation."""
    part = re.search(rf"^%{re.escape(name)} .*?^}}", text, re.MULTILINE | re.DOTALL)[0]
    return sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', part)))


@needs_libtpu
def test_a_scan_costs_its_body_times_its_trips(texts):
    text = texts("scanned")
    program = cost.program_cost(text)
    ((body, trips),) = program.loops
    once = body_cycles(text, body)
    assert trips == TRIPS
    assert once > 0
    assert program.cycles == program.text_cycles + (TRIPS - 1) * once
    assert program.cycles == pytest.approx(cost.program_cost(texts("unrolled")).cycles, rel=0.3)  # the same products


@needs_libtpu
def test_loops_in_loops_multiply(texts):
    program = cost.program_cost(texts("nested"))
    assert sorted(trips for _, trips in program.loops) == [3, TRIPS]
    assert program.cycles == pytest.approx(3 * cost.program_cost(texts("scanned")).cycles, rel=0.2)


@needs_libtpu
def test_the_dearest_branch_of_a_conditional_counts(texts):
    program, unrolled = cost.program_cost(texts("branched")), cost.program_cost(texts("unrolled"))
    assert program.cycles == pytest.approx(unrolled.cycles * (TRIPS + 1) / TRIPS, rel=0.2)
    assert program.text_cycles > program.cycles


@needs_libtpu
@pytest.mark.parametrize("generation", chips.CHIPS)
def test_a_large_product_runs_near_the_documented_peak(texts, generation):
    """Clock, matrix units and cycles are consistent: cycles over the clock are seconds."""
    chip = chips.CHIPS[generation]
    seconds = cost.program_cost(texts(f"product-{generation}")).cycles / chip.clock_hz
    least = 0.8 if generation == "v7x" else 0.85
    assert least < 2 * WIDE**3 / seconds / (chip.flops / chip.devices) <= 1.0


@needs_libtpu
@pytest.mark.parametrize(
    ("name", "kind", "nbytes", "runs"),
    [
        ("all-reduce", "all-reduce", BUFFER, 1),
        ("all-reduce-bf16", "all-reduce", BUFFER // 2, 1),
        ("all-gather", "all-gather", 4 * BUFFER, 1),
        ("reduce-scatter", "reduce-scatter", BUFFER, 1),
        ("all-to-all", "all-to-all", BUFFER, 1),
        ("collective-permute", "collective-permute", BUFFER, 1),
        ("scanned-all-reduce", "all-reduce", BUFFER, TRIPS),
    ],
)
def test_collectives_of_the_compiler(texts, name, kind, nbytes, runs):
    assert {kind.split("-bf16")[0].removeprefix("scanned-") for kind in tpu_programs.KINDS} == set(cost.COLLECTIVES)
    program = cost.program_cost(texts(name))
    (collective,) = program.collectives
    assert collective[:4] == (kind, nbytes, 4, runs)
    assert not set(program.uncosted) & set(cost.COLLECTIVES)


@needs_libtpu
def test_a_collective_spans_what_the_compiler_schedules_between_its_ends(texts):
    """In one program the products hide the permutation; in the other they wait for it."""
    hidden, exposed = cost.program_cost(texts("overlapped")), cost.program_cost(texts("waited_for"))
    products = cost.program_cost(texts("unrolled")).cycles

    def waited_s(program):
        return schedule.exposed_s(program.collectives, lambda exchange: 1e-5, clock_hz=1e9)

    (collective,) = hidden.collectives
    assert collective.end.cycles - collective.begin.cycles == pytest.approx(products, rel=0.2)
    assert products > 1e-5 * 1e9  # so they can hide it
    assert waited_s(hidden) == 0
    assert waited_s(exposed) == pytest.approx(1e-5, rel=0.2)
    # A synchronous collective in a loop is waited for in each trip.
    looped = cost.program_cost(texts("scanned-all-reduce"))
    assert waited_s(looped) == pytest.approx(TRIPS * 1e-5)


def entry(*lines, more="", devices=8):
    """A program of some instructions."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m, num_partitions={devices}\n\n{more}ENTRY %e (x: f32[64]) -> f32[64] {{\n{body}\n}}\n"


X = "%x = f32[64]{0} parameter(0)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("all-reduce(%x), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add", (256, 2)),
        ("all-reduce(%x), replica_groups={}, to_apply=%add", (256, 8)),
        ("all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%add", (256, 4)),
        ("all-reduce(%x), replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%add", (256, 4)),
        ("all-reduce(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add", (256, 4)),
        ("all-reduce(%x), replica_groups=mesh['a'=2,'b'=4] {'a', 'b'}, to_apply=%add", (256, 8)),
        ("reduce-scatter(%x), replica_groups=[1,8]<=[8], dimensions={0}", (8 * 256, 8)),
    ],
)
def test_every_form_of_replica_groups(line, expected):
    (collective,) = cost.program_cost(entry(X, f"ROOT %r = f32[64]{{0}} {line}")).collectives
    assert (collective.nbytes, collective.group) == expected


def test_asynchronous_pairs_count_once_with_their_result():
    program = cost.program_cost(
        entry(
            X,
            "%g = (f32[64]{0}, f32[512]{0}) all-gather-start(%x), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}",
            "%h = f32[512]{0} all-gather-done(%g)",
            "%s = (f32[64]{0}, bf16[32]{0}) all-reduce-start(%x, %b), replica_groups=[4,2]<=[8], to_apply=%add",
            "%t = (f32[64]{0}, bf16[32]{0}) all-reduce-done(%s)",
            "%c = (f32[64]{0}, f32[64]{0:S(1)}, u32[]) copy-start(%x)",
            "ROOT %d = f32[64]{0:S(1)} copy-done(%c)",
        )
    )
    assert [each[:4] for each in program.collectives] == [("all-gather", 2048, 8, 1), ("all-reduce", 256 + 64, 2, 1)]
    assert program.uncosted == {"copy-start": cost.Uncosted(1, 256)}


def test_a_collective_that_other_fusions_continue_counts_once():
    gather = (
        "%p = f32[64]{0} parameter(0)\n"
        "  ROOT %a = f32[512]{0} all-gather(%p), replica_groups=[1,8]<=[8], dimensions={0}"
    )
    names = ("begun", "async_collective_fusion.1", "ended")
    inner = "".join(f"%{name} (p: f32[64]) -> f32[512] {{\n  {gather}\n}}\n\n" for name in names)
    program = cost.program_cost(
        entry(
            X,
            "%async-collective-start.1 = f32[512]{0} fusion(%x), kind=kCustom, calls=%begun",
            "%fusion.1 = f32[512]{0} fusion(%x), kind=kOutput, calls=%async_collective_fusion.1, "
            'backend_config={"estimated_cycles":"70"}',
            "ROOT %async-collective-done.1 = f32[512]{0} fusion(%x), kind=kCustom, calls=%ended",
            more=inner,
        )
    )
    (collective,) = program.collectives
    assert collective[:4] == ("all-gather", 2048, 8, 1)
    assert (collective.begin.cycles, collective.end.cycles) == (0, 70)
    assert (program.cycles, program.uncosted) == (70, {})


def test_a_fusion_that_reduces_and_slices_is_a_reduce_scatter():
    inner = (
        "%f (p: f32[512]) -> f32[64] {\n  %p = f32[512]{0} parameter(0)\n"
        "  %a = f32[512]{0} all-reduce(%p), replica_groups=[1,8]<=[8], to_apply=%add\n"
        "  ROOT %s = f32[64]{0} dynamic-slice(%a, %p)\n}\n\n"
    )
    text = entry(X, "ROOT %r = f32[64]{0} fusion(%x), kind=kCustom, calls=%f", more=inner)
    (collective,) = cost.program_cost(text).collectives
    assert collective[:4] == ("reduce-scatter", 2048, 8, 1)
    assert collective.begin == collective.end


def test_instructions_without_a_figure_are_listed_by_kind():
    inner = "%f (p: f32[64]) -> f32[64] {\n  %p = f32[64] parameter(0)\n  ROOT %s = f32[64] gather(%p, %p)\n}\n\n"
    lines = [
        X, "%c = f32[] constant(1)", "%d = f32[] add(%c, %c)", "%b = f32[8,8] bitcast(%x)",
        "%j = f32[8,8] custom-call(%b), custom_call_target=\"ConcatBitcast\"",
        "%k = f32[64] custom-call(%x), custom_call_target=\"tpu_custom_call\"",
        "%r = f32[] reduce(%x, %c), to_apply=%add", "%g = f32[64] fusion(%x), kind=kCustom, calls=%f",
        "ROOT %w = f32[64] fusion(%x), kind=kLoop, calls=%f, backend_config={\"estimated_cycles\":\"12\"}",
    ]  # fmt: skip
    program = cost.program_cost(entry(*lines, more=inner))
    assert program.cycles == 12
    assert program.uncosted == {
        "scalar": cost.Uncosted(1, 4), "custom-call:tpu_custom_call": cost.Uncosted(1, 256),
        "reduce": cost.Uncosted(1, 4), "fusion:gather": cost.Uncosted(1, 256),
    }  # fmt: skip


def test_the_largest_number_is_not_a_figure():
    """The compiler marks the work of a SparseCore (v6e) with it."""
    program = cost.program_cost(entry(X, 'ROOT %w = f32[64] add(%x, %x), c={"estimated_cycles":"9223372036854775807"}'))
    assert (program.cycles, program.text_cycles, program.uncosted) == (0, 0, {"add": cost.Uncosted(1, 256)})


def test_the_command_prints_each_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "p.hlo"
    path.write_text(
        entry(X, 'ROOT %w = f32[64] add(%x, %x), metadata={op_name="a/layer_3/b"}, c={"estimated_cycles":"5"}')
    )
    monkeypatch.setattr(sys, "argv", ["cost", str(path), "--top", "1"])
    hlo_cost.main()
    assert "0.000 M cycles executed" in (output := capsys.readouterr().out)
    assert "a/layer_*/b" in output
    assert hlo.parse(path.read_text()).devices == 8
