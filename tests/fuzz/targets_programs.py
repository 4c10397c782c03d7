"""Texts of compiled programs: written with a known cost, and damaged."""

import pathlib
import tempfile

from hypothesis import strategies as st

from bert_tpu.planning import cost
from fuzz import damaged, targets_commands
from fuzz.target import Target
from tools import hlo_cost

DEPTH = 3


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


def _check_program(drawn):
    """The cycles of a program are those that it was written with, and a cut text is refused."""
    (text, cycles), place = drawn
    assert cost.program_cost(text).cycles == cycles
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "p.hlo")
        path.write_text(text[: place % len(text)] if place else text)
        printed = targets_commands.output(hlo_cost, path, "--top", "3")
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
        assert targets_commands.output(hlo_cost, path) == targets_commands.output(hlo_cost, path)


def targets():
    """The targets of this file."""
    places = st.sampled_from((0, 0, 1)).flatmap(lambda cut: st.integers(1, 10**4) if cut else st.just(0))
    return [
        Target("programs, written", st.tuples(_programs(), places), _check_program, 0.3),
        Target("programs, damaged", damaged.edits(st.just(PROGRAM)), _check_damaged_program, 0.5),
    ]
