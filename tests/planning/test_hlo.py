"""HLO texts written by hand: parsing, the trips of loops, and the refusal of other texts."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from bert_tpu.planning import cost, hlo

LOOP = """HloModule m, is_scheduled=true, num_partitions=4

%body (p.0: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {{
  %p.0 = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)S(1)}}) parameter(0)
  %i = s32[]{{:T(128)}} get-tuple-element(%p.0), index=0
  %x = f32[8,128]{{1,0:T(8,128)S(1)}} get-tuple-element(%p.0), index=1
  %by = s32[]{{:T(128)}} constant({step})
  %next = s32[]{{:T(128)}} add(%i, %by)
  %work = f32[8,128]{{1,0}} fusion(%x), kind=kLoop, calls=%f, backend_config={{"estimated_cycles":"100"}}
  ROOT %t = (s32[], f32[8,128]) tuple(%next, %work)
}}

%condition (p.1: (s32[], f32[8,128])) -> pred[] {{
  %p.1 = (s32[], f32[8,128]) parameter(0)
  %end = s32[] constant({last})
  %j = s32[] get-tuple-element(%p.1), index=0
  ROOT %go = pred[] compare(%j, %end), direction={direction}
}}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {{
  %a = f32[8,128]{{1,0}} parameter(0)
  %first = s32[] constant({first})
  %copied = s32[] copy(%first)
  %start = (s32[], f32[8,128]) tuple(%copied, %a)
  %loop = (s32[], f32[8,128]) while(%start), condition=%condition, body=%body{known}
  ROOT %out = f32[8,128] get-tuple-element(%loop), index=1
}}
"""


def trips(first=0, step=1, last=7, direction="LT", known=""):
    text = LOOP.format(first=first, step=step, last=last, direction=direction, known=known)
    module = hlo.parse(text)
    computation = module.computations[module.entry]
    return hlo.trips(module, computation, computation["loop"])


@given(first=st.integers(-50, 50), step=st.integers(1, 9), last=st.integers(-50, 200), inclusive=st.booleans())
def test_trips_are_those_of_counting(first, step, last, inclusive):
    counted, i = 0, first
    while i <= last if inclusive else i < last:
        i, counted = i + step, counted + 1
    assert trips(first, step, last, "LE" if inclusive else "LT") == counted


def test_the_note_of_the_compiler_comes_first():
    assert trips(known=', backend_config={"known_trip_count":{"n":"12"}}') == 12


@pytest.mark.parametrize("strange", [{"direction": "NE"}, {"step": 0}, {"step": -1}])
def test_a_loop_of_unknown_length_is_refused(strange):
    with pytest.raises(ValueError, match="does not say how often the loop loop runs"):
        trips(**strange)


def test_parts_of_an_instruction():
    text = """HloModule m, replica_count=2, num_partitions=8
ENTRY %main.5_spmd (a: bf16[2]) -> (bf16[2], f32[]) {
  %a = bf16[2]{0:T(256)(128)(2,1)S(1)} parameter(0), metadata={op_name="x (y) = {z}"}
  %c.1 = f32[] constant(-1e9)
  ROOT %r.2 = (bf16[2]{0:T(256)}, /*index=1*/f32[]{:T(128)}) custom-call(%a, /*index=1*/%c.1), custom_call_target="X(", calls=%f
}
"""  # noqa: E501
    module = hlo.parse(text)
    assert (module.entry, module.devices) == ("main.5_spmd", 16)
    a, c, r = module.computations["main.5_spmd"].values()
    assert (a.opcode, a.operands, a.is_root) == ("parameter", (), False)
    assert (c.opcode, c.operands) == ("constant", ("-1e9",))
    assert (r.opcode, r.operands, r.is_root, r.called("calls")) == ("custom-call", ("a", "c.1"), True, ["f"])
    assert (hlo.elements(r.shape), hlo.nbytes(r.shape)) == (3, 8)
    assert hlo.root(module.computations["main.5_spmd"]) is r


SIZES = {"pred": 1, "s8": 1, "u16": 2, "bf16": 2, "f32": 4, "s64": 8, "f8e4m3fn": 1}
ARRAYS = st.tuples(st.sampled_from(sorted(SIZES)), st.lists(st.integers(0, 40), max_size=4))


@given(st.lists(ARRAYS, min_size=1, max_size=4), st.booleans())
def test_bytes_count_every_array_of_a_shape(arrays, comments):
    texts = [f"{kind}[{','.join(map(str, dims))}]{{0:T(8,128)(2,1)S(1)}}" for kind, dims in arrays]
    shape = texts[0] if len(texts) == 1 else f"({(', /*index=5*/' if comments else ', ').join(texts)})"
    numbers = []
    for _, dims in arrays:
        numbers.append(1)
        for length in dims:
            numbers[-1] *= length
    assert hlo.elements(shape) == sum(numbers)
    assert hlo.nbytes(shape) == sum(n * SIZES[kind] for n, (kind, _) in zip(numbers, arrays, strict=True))


@pytest.mark.parametrize(
    "text", ["", "hello", "HloModule m\n\n%f (x: f32[]) -> f32[] {\n  %x = f32[] parameter(0)\n}\n"]
)
def test_texts_without_an_entry_are_refused(text):
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse(text)


WHOLE = LOOP.format(first=0, step=1, last=7, direction="LT", known="")


def test_a_text_that_was_cut_anywhere_is_refused():
    """A part of a program would seem to need fewer cycles."""
    for size in range(len(WHOLE.rstrip())):
        with pytest.raises(ValueError):  # noqa: PT011  # in many words
            cost.program_cost(WHOLE[:size])


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("body=%body", "body=%nobody", "named and not there"),
        ("  ROOT %go", "  %go", "does not have one result"),
        ("%by = s32[]", "%i = s32[]", "two values i"),
        ("  %x = ", "  %x ", "not an instruction: %x"),
        ("add(%i, %by)", "add", "next has no operation"),
        ("condition=%condition, ", "", "named and not there"),
    ],
)
def test_a_damaged_text_is_refused(before, after, words):
    text = WHOLE.replace("calls=%f", "calls=%condition")
    assert cost.program_cost(text).cycles == 700
    damaged = text.replace(before, after)
    with pytest.raises(ValueError, match=words):
        cost.program_cost(damaged)
