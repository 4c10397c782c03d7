"""Plans a tiny run with the command of a user, computes its figures by hand, and checks the error messages."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

from conftest import ROOT
from helpers import tiny_runs, warm_processes
from helpers.compiled_programs import needs_libtpu
import pytest

from bert_tpu.core import batch_ramp, command, config
from bert_tpu.hardware import chips
from bert_tpu.model import flops, transformer
from bert_tpu.planning import compiler, cost, largest_batch, plan
from bert_tpu.pretrain import pretraining
from tools import plan as tool

TINY = tiny_runs.KEYS | {
    "model.vocab_size": 512, "model.hidden_size": 128, "model.num_heads": 2, "model.intermediate_size": 256,
    "model.dtype": "bfloat16", "data.schedule": "phased", "data.long_every": 10, "num_steps": 1_000_000,
    "compile_cache": "",
}  # fmt: skip
CHIPS = 4
TIMES = plan.Times(products=1e-3, hbm=2e-4, cycles=3e-3, links=5e-4, exposed=3e-4, exposed_one_way=4e-4, uncosted=2e-4)


def run(*words, without=()):
    """The finished command, in an environment like a user's."""
    return warm_processes.run("tools.plan", [f"--config={tiny_runs.FILE}", *words], env=environment(without))


def environment(without=()):
    """The environment of a user, without the tests' variables for JAX."""
    return {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "JAX_PLATFORMS", *without)}


def flags(keys):
    return [f"--config.{key}={value}" for key, value in keys.items()]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def planned(cache):
    """The JSON of the tiny run on a single host of v5e."""
    words = [f"--config={tiny_runs.FILE}", "--topology=v5e:2x2", "--json", *flags(TINY | {"compile_cache": cache})]
    # A new process, not a warm copy: messages of JAX and libtpu at their import would be in the output.
    code = [sys.executable, "-m", "tools.plan", *words]
    done = subprocess.run(code, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "E0000" not in done.stderr
    assert "libtpu" not in done.stderr
    assert all("compil" in line or line.endswith(" s ...") for line in done.stderr.splitlines())
    return json.loads(done.stdout)


@needs_libtpu
def test_json_has_the_agreed_keys_and_no_more(planned):
    assert list(planned) == [
        "config", "topology", "chips", "seconds_to_plan", "lengths", "hours_low", "hours_high", "cost_low",
        "cost_high", "kwh_low", "kwh_high", "kgco2e_low", "kgco2e_high", "hours_scheduled",
    ]  # fmt: skip
    assert (planned["config"], planned["topology"], planned["chips"]) == (tiny_runs.FILE, "v5e:2x2", CHIPS)
    assert list(planned["lengths"]) == ["16", "32"]
    for length in planned["lengths"].values():
        assert set(length) == {
            "fits", "hbm_gib", "gflops", "mcycles", "collective_mib", "links_ms", "links_exposed_ms", "step_ms_low",
            "step_ms_scheduled", "step_ms_high", "uncosted",
        }  # fmt: skip
        assert length["fits"] is True
        assert 0 < length["links_exposed_ms"] <= length["links_ms"] * (1 + 1e-9)  # sums in another order
        assert length["step_ms_low"] <= length["step_ms_scheduled"] <= length["step_ms_high"]
        assert all(type(runs) is int and runs > 0 for runs in length["uncosted"].values())


@needs_libtpu
def test_the_compilers_flops_of_a_step_in_parts_are_not_shown(tmp_path):
    """It counts a loop's body once."""
    keys = TINY | {"compile_cache": tmp_path, "accumulate": 2, "exchange": "reduce-scatter"}
    done = run("--topology=v5e:1x1", "--json", *flags(keys))
    assert done.returncode == 0, done.stderr
    assert [length["gflops"] for length in json.loads(done.stdout)["lengths"].values()] == [None, None]


@needs_libtpu
def test_the_figures_of_the_compiler_are_near_those_of_the_formulas(planned):
    job = pretraining.make_job(tiny_runs.configured(TINY))
    size = transformer.Bert(**tiny_runs.configured(TINY).model, parent=None, name=None)
    for n, length in planned["lengths"].items():
        products = flops.train(size, 8, int(n), job.shapes[int(n)]["masked_ids"][1]) / CHIPS / 1e9
        assert products < length["gflops"] < 1.6 * products  # a small model has much that is not a product
        parameters = 128 * 512 + 32 * 128 + 2 * 128 + 4 * 128 * 128 + 2 * 128 * 256 + 2 * 128 * 128
        assert 12 * parameters < length["hbm_gib"] * 2**30 < 64e6
        # Gradients are all that travels; some may go as bfloat16.
        assert 2 * parameters < length["collective_mib"] * 2**20 < 8 * 1.1 * parameters
        assert length["mcycles"] / 1.5 < length["step_ms_low"] * 1.0001  # cycles at 1.5 GHz, in ms
        assert length["step_ms_low"] < length["step_ms_high"]


@needs_libtpu
def test_the_sums_follow_from_the_steps(planned):
    cfg, chip = tiny_runs.configured(TINY).plan, chips.CHIPS["v5e"]
    for end, watts in (("low", chip.watts[0]), ("high", chip.watts[1])):
        short, long = (planned["lengths"][n][f"step_ms_{end}"] for n in ("16", "32"))
        hours = (900_000 * short + 100_000 * long) / 1000 / 3600
        kwh = hours * CHIPS * watts / 1000 * cfg.pue
        for key, value in (
            ("hours", hours), ("cost", hours * CHIPS * cfg.price.v5e), ("kwh", kwh),
            ("kgco2e", kwh * cfg.kgco2e_per_kwh),
        ):  # fmt: skip
            assert planned[f"{key}_{end}"] == pytest.approx(value, rel=1e-9)


@needs_libtpu
def test_another_price_compiles_nothing(planned, cache):
    before = {path: path.stat().st_mtime_ns for path in (cache / "plans").iterdir()}
    changes = {"compile_cache": cache, "plan.price.v5e": 2.5}
    again = json.loads(run("--topology=v5e:2x2", "--json", *flags(TINY | changes)).stdout)
    assert {path: path.stat().st_mtime_ns for path in (cache / "plans").iterdir()} == before
    assert len(before) == 2
    assert again["lengths"] == planned["lengths"]
    cheap = tiny_runs.configured(TINY).plan.price.v5e
    assert again["cost_low"] == pytest.approx(planned["cost_low"] * 2.5 / cheap)


@needs_libtpu
def test_the_table_is_for_a_person():
    done = run("--topology=v3:2x2", *flags(TINY | {"data.seq_lens": 16, "data.max_predictions": 3}))
    assert done.returncode == 0, done.stderr
    for words in (
        "16 tokens",
        "ESTIMATE",
        "parameters",
        "optimizer",
        "all-reduce, MiB",
        "kg CO2e",
        "1,000,000 steps at 16",
    ):
        assert words in done.stdout
    assert "M cycles executed by a core" in done.stdout


@needs_libtpu
def test_too_much_for_hbm_is_an_answer():
    huge = TINY | {"batch_size": 32768, "model.max_positions": 512, "data.seq_lens": 512, "data.max_predictions": 3}
    done = run("--topology=v5e:2x2", "--json", *flags(huge))
    assert done.returncode == 0, done.stderr
    plan_json = json.loads(done.stdout)
    assert plan_json["lengths"]["512"]["fits"] is False
    assert plan_json["lengths"]["512"]["hbm_gib"] > 15.75
    assert plan_json["hours_low"] is plan_json["cost_high"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--topology=v5x:2x2"], "no TPU topology 'v5x:2x2': give one such as v3:2x2, v3:4x4,"),
        pytest.param(["--topology=v5e:4x4"], "batch_size 8 does not divide over 16 devices", marks=needs_libtpu),
        pytest.param(["--topology=v3:4x5"], "the compiler knows no topology v3:4x5", marks=needs_libtpu),
        (["--topology=v5e:2x2", "--config.plan.price.v5e=-1"], "config.plan.price.v5e is -1.0: give 0 or more"),
        (["--topology=v5e:2x2", "--config.plan.pue=0.9"], "config.plan.pue is 0.9: give 1 or more"),
        (["--topology=v5e:2x2", "--config.plan.watts=1"], "config.plan has no key watts: its keys are"),
        ([], "the following arguments are required: --topology"),
    ],
)
def test_a_slip_is_named_at_once(words, sentence):
    done = run(*words, *flags(TINY))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1


def test_without_libtpu_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(command.UserError, match=r"needs libtpu: pip install 'bert_tpu\[plan\]'"):
        compiler.use_cpu_only()


def test_the_range_of_a_step():
    assert TIMES.low == 3e-3
    assert TIMES.high == pytest.approx(3.7e-3)
    assert TIMES._replace(links=9e-3).low == 9e-3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v4:2x2x4", "170 .. 192 W a chip (measured), without hosts, PUE 1.09"),
        ("v5e:4x4", "66 .. 138 W a chip (the fleet's mean .. an estimated maximum), without hosts, PUE 1.09"),
    ],
)
def test_the_table_names_the_source_of_the_watts(name, words):
    length = plan.LengthPlan(None, 0.0, TIMES, {})
    run_plan = plan.Plan(
        chips.find(name), {128: length}, {128: 1000}, 256, 1.0, price=1.0, pue=1.09, kgco2e_per_kwh=0.375
    )
    assert any(line.startswith("kWh") and line.endswith(words) for line in tool._totals(run_plan))


@pytest.mark.parametrize(
    ("name", "flops_per_s", "bytes_per_s"),
    [("v3:2x2", 123e12, 900e9 / 2), ("v5e:2x2", 197e12, 819e9), ("v7x:2x2x1", 2307e12, 7380e9 / 2)],
)
def test_figures_of_a_chip_with_two_devices_are_not_those_of_a_device(name, flops_per_s, bytes_per_s):
    """FLOP/s, watts and prices are a chip's, 4 in each slice; the compiler's program and its memory are a device's."""
    of_device = cost.Cost(5_000_000, 5_000_000, {}, [], [], collections.Counter())
    memory = compiler.Memory(params=4 * 10**8, opt=8 * 10**8, rest=0, temporaries=0, program=0)
    program = compiler.Program(1.0, memory.total, 10**10, memory, of_device, None, "")
    topology = chips.find(name)
    length = plan.plan_length(topology, program, 2e12)
    assert length.times.products == pytest.approx(2e12 / (CHIPS * flops_per_s))
    assert length.times.hbm == pytest.approx(2 * 12e8 / bytes_per_s)
    steps = {128: 1000}, 256, 1.0
    run_plan = plan.Plan(topology, {128: length}, *steps, price=2.0, pue=1.5, kgco2e_per_kwh=0.375)
    assert run_plan.chip_hours == pytest.approx([CHIPS * hours for hours in run_plan.hours])
    assert run_plan.cost == pytest.approx([2.0 * CHIPS * hours for hours in run_plan.hours])
    if watts := topology.chip.watts:
        wanted = [CHIPS * hours * w / 1000 * 1.5 for hours, w in zip(run_plan.hours, watts, strict=True)]
        assert run_plan.kwh == pytest.approx(wanted)


def test_a_plan_without_watts_and_price_has_hours_alone():
    length = plan.LengthPlan(None, 0.0, TIMES, {})
    steps = {128: 1000}, 256, 1.0
    run_plan = plan.Plan(chips.find("v7x:2x2x4"), {128: length}, *steps, price=0.0, pue=1.09, kgco2e_per_kwh=0.375)
    assert (run_plan.cost, run_plan.kwh, run_plan.kgco2e) == (None, None, None)
    assert run_plan.hours is not None
    lines = tool._totals(run_plan)
    assert any(line.startswith("cost") and "--config.plan.price.v7x=DOLLARS" in line for line in lines)
    assert any(line.startswith("kWh") and line.endswith("the watts of TPU7x are not published") for line in lines)
    assert not [line for line in lines if line.startswith("kg CO2e") or "does not fit" in line]


def test_a_plan_of_a_ramp_adds_up_its_steps():
    cfg = tiny_runs.configured(
        TINY | {"batch_size": 1024, "ramp.rows": (256, 512), "ramp.steps": 60_000, "data.schedule": "phased"}
    )
    inputs = plan.check(cfg, chips.find("v5e:4x4"))
    assert inputs.steps == {16: 840_000, 32: 100_000}
    assert inputs.ramp == {(256, 16): 30_000, (512, 16): 30_000}
    cfg.ramp.steps = 900_000  # all short steps: a full batch of them is never trained and need not fit
    assert plan.check(cfg, chips.find("v5e:4x4")).steps == {32: 100_000}
    full = plan.LengthPlan(None, 0.0, TIMES, {})
    half = plan.LengthPlan(None, 0.0, plan.Times(*(x / 2 for x in TIMES)), {})
    run_plan = plan.Plan(
        chips.find("v5e:4x4"), {16: full}, {16: 840_000}, 1024, 1.0, price=1.0, pue=1.09, kgco2e_per_kwh=0.375,
        ramp=(plan.StagePlan(512, 16, 60_000, half),),
    )  # fmt: skip
    assert run_plan.hours == pytest.approx([870_000 * t / 3600 for t in (TIMES.low, TIMES.high)])
    assert any(
        line.startswith("60,000 steps of 512 rows at 16, 840,000 steps at 16") for line in tool._totals(run_plan)
    )
    too_large = run_plan.ramp[0]._replace(length=full._replace(times=None))
    assert run_plan._replace(ramp=(too_large,)).hours is None


def noisy(fault):
    with compiler.hide_stderr():
        os.write(2, b"noise of C++\n")
        print("progress", file=sys.stderr)
        if fault:
            raise fault


def test_stderr_of_cpp_is_printed_only_with_a_bug(capfd):
    noisy(None)
    assert capfd.readouterr().err == "progress\n"
    with pytest.raises(ZeroDivisionError):
        noisy(ZeroDivisionError())
    assert "noise of C++" in capfd.readouterr().err
    with pytest.raises(command.UserError):
        noisy(command.UserError("x"))
    assert capfd.readouterr().err == "progress\n"


@pytest.mark.parametrize("row", [3.7e6, 2.2e5, 9.1e7])
@pytest.mark.parametrize("first", [16, 4096, 10**6])
@pytest.mark.parametrize("jump", [1, 2**29])
def test_the_largest_batch_is_found_in_few_compiles(row, first, jump):
    unit, limit, tried = 16, 16 * 2**30, []

    def compiled(batch):
        tried.append(batch)
        used = -round(-3e8 - row / 16 * batch) // jump * jump + jump  # a line, or stairs
        memory = compiler.Memory(used, 0, 0, 0, 0) if used <= limit else None
        return compiler.Program(1.0, used, limit, memory, None, None, None)

    batch, sentence = largest_batch.search(compiled, unit, first)
    assert batch % unit == 0
    assert compiled(batch).fits
    assert not compiled(batch + max(unit, batch // 50)).fits
    assert len(tried) <= 12
    assert "examples would need" in sentence


@pytest.mark.parametrize("packed_rows", [0, 128, 240, 96])
def test_packed_rows_grow_with_the_batch_that_is_tried(packed_rows):
    cfg = config.load_changed("fast:medium", [f"--config.data.packed_rows={packed_rows}", "--config.accumulate_long=4"])
    parts = pretraining.make_job(cfg).accumulate
    unit = largest_batch.unit_of(cfg, 16, parts)
    for batch in (unit, 7 * unit):
        spec = pretraining.make_batch_spec(batch_ramp.resized(cfg, batch))
        spec.check_division(16, parts)
        assert spec.batch_size == batch
        assert spec.rows(512) * cfg.batch_size == batch * (packed_rows or cfg.batch_size)


@needs_libtpu
def test_ctrl_c_while_it_compiles_ends_it_at_once_and_leaves_nothing(tmp_path):
    code = [
        sys.executable,
        "-m",
        "tools.plan",
        f"--config={tiny_runs.FILE}",
        "--topology=v5e:2x2",
        "--config.compile_cache=",
    ]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(code, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("compiling batch 256 on v5e:2x2")
    while not any(path.is_dir() and any(path.iterdir()) for path in tmp_path.iterdir()):
        time.sleep(0.01)  # until the compiler has begun
    process.send_signal(signal.SIGINT)
    sent_s = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - sent_s < 5
    assert (out, err) == ("", "")
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_no_batch_fits():
    program = compiler.Program(1.0, 99 * 2**30, 16 * 2**30, None, None, None, None)
    assert largest_batch.search(lambda batch: program, 16, 64)[0] == 0


def test_exchanges_are_summed_by_kind():
    start, end = cost.Moment(0, 0), cost.Moment(3_000_000, 3)
    ops = [
        cost.Collective("all-reduce", 2**20, 16, 2, cost.Moment(0, 1), cost.Moment(0, 1)),
        cost.Collective("all-reduce", 2**20, 16, 1, end, end),
        cost.Collective("all-gather", 2**22, 16, 1, start, cost.Moment(2_999_999, 2)),
    ]
    program_cost = cost.Cost(
        3_000_000, 0, {"copy-start": cost.Uncosted(9, 10**9), "sort": cost.Uncosted(1, 819_000)}, ops, [], {}
    )
    memory = compiler.Memory(100, 200, 0, 0, 0)
    topology = chips.find("v5e:4x4")
    program = compiler.Program(1.0, 300, 2**34, memory, program_cost, 1e9, None)
    length = plan.plan_length(topology, program, 16 * 197e9)
    reduce_s = chips.exchange_s(topology, "all-reduce", 2**20, 16)
    assert length.exchanges["all-reduce"] == (3, 3 * 2**20, pytest.approx(3 * reduce_s))
    assert length.times.cycles == pytest.approx(2e-3)
    assert length.times.products == pytest.approx(1e-3)
    assert length.times.uncosted == pytest.approx(2e-6)  # copies ahead are not waited for
    gather_s = chips.exchange_s(topology, "all-gather", 2**22, 16)
    assert length.times.links == pytest.approx(3 * reduce_s + gather_s)
    # The first sums queue on the links behind the gather, which computation would have hidden; then comes the last sum.
    assert length.times.exposed == pytest.approx(gather_s + 3 * reduce_s)
    assert length.times.scheduled == pytest.approx(2e-3 + gather_s + 3 * reduce_s)
