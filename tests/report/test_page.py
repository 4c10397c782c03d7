"""The report of a run: the page has what the files say, names what is missing, and a browser draws it."""

import html.parser
import json
import re
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from bert_tpu.core import command
from bert_tpu.monitoring import health
from bert_tpu.report import curves, page, run, svg, tables
from tools import report

STEPS = 4000
BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
PHONE, TALL = 390, 5000
COLOR = (0x00, 0x72, 0xB2)  # of the first line, in the light scheme
HOSTILE = '<script>alert("1")</script> & <b>'
VOID = {"meta", "link", "path", "circle", "rect", "br", "use"}


def evaluation(step, seq_len, **changes):
    loss = 2 + 40 * step**-0.5 + (seq_len == 32)
    values = {"loss": loss + 0.5, "mlm_loss": loss, "mlm_accuracy": 0.3, "nsp_loss": 0.5, "nsp_accuracy": 0.8}
    return {"step": step, "kind": "eval", "seq_len": seq_len, **values, **changes}


def training(step, seq_len):
    measured = {"learning_rate": 1e-3 * (1 - step / STEPS), "grad_norm": 2.0, "input_wait": 0.01, "skipped": 0.0}
    rates = {"examples_per_sec": 6400 / seq_len, "tokens_per_sec": 6400.0}
    return evaluation(step, seq_len) | {"kind": "train"} | measured | rates


LINES = [
    line for step in range(200, STEPS + 1, 200) for n in (32, 128)
    for line in (training(step, n), evaluation(step, n)) if line["kind"] == "train" or step % 1000 == 0
]  # fmt: skip
PART = [line for line in LINES if line["step"] <= 2200]
CONFIG = {
    "num_steps": STEPS, "batch_size": 8, "data": {"dir": "gone"}, "corpus": {"sha256": "c0ffee"},
    "optim": {"learning_rate": 1e-3, "warmup_steps": 100}, "plan": {"pue": 1.5, "kgco2e_per_kwh": 0.5, "price": {}},
    "model": {"num_layers": 2, "hidden_size": 128, "num_heads": 2},
}  # fmt: skip
FACTS = health.Facts(6.5, 0.001, 100, {32: 0.6, 128: 0.55})
SAMPLES = [
    {"step": step, "samples": [{"text": "the [MASK] sat", "places": [
        {"truth": "cat", "top": [["dog" if step < 3000 else "cat", 0.5], ["a", 0.123], ["##s", 0.001]]}
    ]}]} for step in (1000, 2000, 3000, 4000)
]  # fmt: skip
HOURS = {"seconds": {"step": 30.0, "compile": 10.0}, "unit_seconds": {"cpu": 7200.0}, "starts": 1, "lost_steps": 0}


def write(directory, lines=LINES, **files):
    """Writes a workdir with these lines and files; a file that is None is left out."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    old_facts = {key: value for key, value in FACTS._asdict().items() if key != "metrics"}  # not listed before 2026-12
    contents = {"config": CONFIG, "hours": HOURS, "health": old_facts} | files
    for name, content in contents.items():
        if content is not None and name != "samples":
            (directory / f"{name}.json").write_text(json.dumps(content))
    samples = files.get("samples", SAMPLES)
    (directory / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(page, path) of a finished run, written by the command."""
    directory = write(tmp_path_factory.mktemp("report") / "run")
    call("--workdir", directory)
    path = directory / "report.html"
    return path.read_text(), path


@pytest.fixture
def undrawn(monkeypatch):
    """Draws no charts: they take time, and the tests of words do not need them."""
    monkeypatch.setattr(svg, "draw", lambda chart, name: f"<svg>{chart.title}</svg>")


def call(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["report", *map(str, words)])
        report.main()


def rendered(*directories):
    return page.render([run.read(str(directory)) for directory in directories])


class Tree(html.parser.HTMLParser):
    """The text of a page, its tags, their ids, and the names and URLs that they refer to."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.ids, self.references, self.unclosed = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.references += re.findall(r"#([\w-]+)\)", " ".join(f"{value}" for _, value in attributes))
        self.references += [value for name, value in attributes if name in ("href", "xlink:href", "src")]
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.unclosed.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.unclosed.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


def test_a_page_is_sound_and_loads_no_other_file(whole):
    tree = Tree(whole[0])
    assert tree.unclosed == []
    assert len(tree.ids) == len(set(tree.ids))
    references = {name.removeprefix("#") for name in tree.references}
    assert references <= {*tree.ids, "data:,"}
    assert "script" not in tree.tags
    assert not re.findall(r"https?://(?!www.w3.org)", whole[0])
    assert not re.findall(r"#[0-9a-f]{6}", whole[0][whole[0].index("</style>") :]), (
        "a colour without a counterpart in the dark scheme"
    )


def test_a_page_is_the_same_when_written_again(whole):
    assert rendered(whole[1].parent) == whole[0]


def test_a_page_has_the_content_of_the_files(whole):
    words = Tree(whole[0]).words()
    for text in (
        "Finished: step 4,000 of 4,000. Held-out MLM loss 2.87 nats below the unigram entropy of 6.50.",
        "The checks detected no fault.", "held-out MLM loss, nats 32 tokens 3.632 128 tokens 2.632",
        "newest checkpoint not measured",
        "unigram entropy 6.500", "commoner label, 32 60.0%", "examples a second 32 tokens 200 128 tokens 50",
        "step 0.50 75.0%", "compile 0.17 25.0%", "energy, kWh, an estimate 0.0021 to 0.013",
        "the [MASK] sat cat dog 50% a 12% ##s <1%", "✓ cat 50%", "optim.learning_rate 0.001", "c0ffee",
    ):  # fmt: skip
        assert text in words, text
    for title in ("Loss", "MLM loss", "MLM accuracy", "NSP accuracy", "Learning rate", "Throughput"):
        assert f'aria-label="{title}"' in whole[0]


def test_the_content_of_a_file_is_never_markup(tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr(svg, "draw", lambda chart, name: "")
    places = [{"truth": HOSTILE, "top": [[HOSTILE, 0.5]]}]
    samples = [{"step": 4000, "samples": [{"text": HOSTILE, "places": places}]}]
    config = CONFIG | {HOSTILE: HOSTILE, "corpus": {"sha256": HOSTILE}}
    tree = Tree(rendered(write(tmp_path / "<i>run", samples=samples, config=config)))
    assert not {"script", "i"} & set(tree.tags)
    assert tree.words().count(HOSTILE) == 5  # text, truth, guess, key, hash
    assert "<i>run" in tree.words()


def test_a_page_has_the_versions_of_each_start(tmp_path, undrawn):
    entry = {"step": 0, "bert_tpu": "0.1", "commit": None, "code": "c0de", "jax": "1", "python": "3"}
    entries = [entry, entry | {"step": 9, "commit": "ab<i>"}]
    words = Tree(rendered(write(tmp_path, versions=entries))).words()
    assert "bert_tpu 0.1 (code c0de), JAX 1, Python 3, from step 0; bert_tpu 0.1 (commit ab<i>, code c0de)" in words


def test_a_chart_s_title_is_never_markup():
    line = curves.Line("", [1, 2], [1.0, 2.0], 0, 0, False)
    drawing = svg.draw(curves.Chart(f'"{HOSTILE}"', "", [line], [], False, False), "c0")
    assert Tree(drawing).tags[0] == "svg"
    assert "script" not in Tree(drawing).tags


def test_missing_measurements_are_named(tmp_path, undrawn):
    lines = [{"step": 1, "kind": "train", "seq_len": 32, "loss": 9.0}]
    words = Tree(rendered(write(tmp_path, lines, config={}, hours=None, health=None, samples=[]))).words()
    assert "Not finished: step 1 is the last one logged." in words
    for name in (
        "size",
        "held-out MLM loss, nats",
        "held-out NSP accuracy",
        "examples a second",
        "energy, kWh, an estimate",
        "steps skipped",
    ):
        assert f"{name} not measured" in words
    assert "Where the hours went not measured" in words
    assert "not measured: the run wrote no samples.jsonl" in words
    assert "Most checks were not possible" in words


def test_a_line_cut_by_a_kill_is_left_out(tmp_path, undrawn, whole):
    directory = write(tmp_path / "run")
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (directory / name).open("a") as file:
            file.write('{"step": 4200, "kind": "train", "samples": [{"text": "x"}')
    assert run.read(directory).evidence.lines == run.read(whole[1].parent).evidence.lines
    assert run.read(directory).samples == SAMPLES
    rendered(directory)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [([], []), ([7], [7]), ([1, 2], [1, 2]), (range(1, 4), [1, 2, 3]), (range(1, 1001), [1, 2, 11, 101, 1000])],
)
def test_many_evaluations_are_thinned_to_a_few(tmp_path, steps, expected):
    lines = [{"step": step, "samples": [{"text": "x", "places": []}]} for step in steps]
    one = run.read(write(tmp_path, samples=lines))
    assert tables.samples([one]).names == [f"step {step:,}" for step in expected]


def broken(tmp_path, name):
    """Writes a workdir with the fault `name`."""
    directory = write(tmp_path / name)
    path = directory / "metrics.jsonl"
    match name:
        case "empty":
            (directory / "config.json").unlink()
        case "unstarted":
            path.unlink()
        case "damaged":
            path.write_text(path.read_text().replace('"kind"', "kind", 1))
        case "strange":
            path.write_text('{"a": 1}\n' + path.read_text())
        case "tuned":
            write(directory, TUNED, **TUNING)
    return directory


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "holds no run"),
        ("unstarted", "has no line in metrics.jsonl yet: wait"),
        ("damaged", "metrics.jsonl is damaged at line 1: restore"),
        ("strange", "metrics.jsonl is damaged at line 1"),
        ("tuned", "compare runs of one kind"),
        ("many", "compare at most 6"),
    ],
)
def test_one_sentence_names_the_fault_and_the_fix(tmp_path, name, words):
    good = write(tmp_path / "good")
    others = [good] * 6 if name == "many" else [broken(tmp_path, name)]
    with pytest.raises(command.UserError, match=words):
        call("--workdir", good, "--compare", *others, "--out", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_folder_is_refused_as_the_page(tmp_path):
    with pytest.raises(command.UserError, match=f"{tmp_path} is a directory"):
        call("--workdir", write(tmp_path / "run"), "--out", tmp_path)


def test_a_bucket_is_refused_as_the_place_of_the_page():
    with pytest.raises(command.UserError, match="give --out"):
        call("--workdir", "gs://bucket/run")


@pytest.mark.parametrize(
    ("lines", "gave_up", "sentence"),
    [
        (LINES, None, "Finished: step 4,000"),
        (PART, None, "Not finished: step 2,200 of 4,000"),
        (PART, [2199, 2200], "Diverged: it gave up at step 2,201 of 4,000"),
        (LINES, [2199, 2200], "Finished: step 4,000"),  # by a later start
    ],
)
def test_the_state_of_a_run(tmp_path, undrawn, lines, gave_up, sentence):
    steps = {"nonfinite": {"steps": [{"step": step} for step in gave_up]}} if gave_up else {}
    assert sentence in Tree(rendered(write(tmp_path, lines, **steps))).words()


def test_a_warning_has_its_first_step_and_whether_it_persists(tmp_path):
    flat = [line | ({"mlm_loss": 6.6} if line["step"] <= 2000 else {}) for line in LINES]
    [warning] = run.warnings(run.read(write(tmp_path / "flat", flat)))
    assert (warning.step, warning.persists) == (1000, False)
    [warning] = run.warnings(run.read(write(tmp_path / "worse", [x | {"mlm_loss": 6.6} for x in LINES])))
    assert (warning.step, warning.persists) == (1000, True)
    skipped = [line | ({"skipped": 3.0} if line["kind"] == "train" and line["step"] == 400 else {}) for line in LINES]
    [warning] = run.warnings(run.read(write(tmp_path / "skipped", skipped)))
    assert warning == (400, True, "steps without a finite loss or gradient were skipped, 6 of 4,000")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "steps skipped none of 4,000 hours"),
        ({"skipped": 1.0}, "steps skipped 40 of 4,000 hours"),
        ({"recomputed": 2.0}, "steps skipped none of 4,000 hours"),  # a count of earlier releases
    ],
)
def test_a_page_counts_the_skipped_steps_of_the_whole_run(tmp_path, undrawn, changes, words):
    lines = [line | (changes if line["kind"] == "train" else {}) for line in LINES]
    assert words in Tree(rendered(write(tmp_path, lines))).words()


def test_one_line_without_the_count_leaves_the_skipped_steps_unmeasured(tmp_path, undrawn):
    lines = [LINES[0] | {"skipped": 2.0}, {key: value for key, value in LINES[2].items() if key != "skipped"}]
    assert "steps skipped not measured" in Tree(rendered(write(tmp_path, lines))).words()


def test_a_page_of_two_runs_has_the_differences(tmp_path, undrawn):
    other = CONFIG | {"optim": CONFIG["optim"] | {"learning_rate": 5e-4, "warmup_share": 0.0}}  # an ADDED key, off
    places = [{"truth": "cat", "top": [["mouse", 0.25]]}]
    samples = [{"step": 9, "samples": [{"text": "the [MASK] sat", "places": places}]}]
    a, b = write(tmp_path / "a"), write(tmp_path / "b", PART, config=other, samples=samples)
    words = Tree(rendered(a, b)).words()
    assert "what differs A B optim.learning_rate 0.001 0.0005 All" in words
    assert "held-out MLM loss, nats 32 tokens 3.632 3.894" in words
    assert "truth A, step 4,000 B, step 9 the [MASK] sat cat ✓ cat 50% a 12% ##s <1% mouse 25%" in words
    assert "The configurations are equal." in Tree(rendered(a, a)).words()


def test_colours_are_lengths_in_one_run_and_runs_in_several(tmp_path):
    one = run.read(write(tmp_path))
    [loss] = [chart for chart in curves.pretraining_charts([one]) if chart.title == "MLM loss"]
    assert [(x.label, x.color, x.form, x.is_markers, len(x.steps)) for x in loss.lines] == [
        ("32", 0, 0, False, 20), ("32", 0, 0, True, 4), ("128", 1, 1, False, 20), ("128", 1, 1, True, 4),
    ]  # fmt: skip
    assert (loss.levels, loss.lines[1].values[-1]) == ([(6.5, None)], pytest.approx(evaluation(4000, 32)["mlm_loss"]))
    [loss] = [chart for chart in curves.pretraining_charts([one, one]) if chart.title == "MLM loss"]
    assert {(line.label, line.color, line.form) for line in loss.lines} == {
        ("A 32", 0, 0), ("A 128", 0, 1), ("B 32", 1, 0), ("B 128", 1, 1),
    }  # fmt: skip


def test_a_run_without_its_last_checkpoint_is_not_finished(tmp_path):
    directory = write(tmp_path)
    for step, state in ((2000, "unfinished"), (STEPS, "finished")):
        (directory / "checkpoints" / str(step)).mkdir(parents=True)
        assert run.read(directory).state == state
        words = "is done, but not saved. The same command goes on."
        assert (words in " ".join(Tree(rendered(directory)).words().split())) == (state == "unfinished")


def test_sums_of_losses_are_drawn_only_if_all_steps_have_the_same_parts(tmp_path):
    part = write(tmp_path / "part", config=CONFIG | {"data": {"dir": "gone", "nsp_share": 0.1}})
    for directory, is_drawn in ((write(tmp_path / "all"), True), (part, False)):
        titles = [chart.title for chart in curves.pretraining_charts([run.read(directory)])]
        assert ("Loss" in titles, "MLM loss" in titles) == (is_drawn, True)


def test_long_lines_are_means_and_the_last_of_many_evaluations_has_a_marker(tmp_path):
    many = [line for step in range(1, 1201) for line in ({**training(step, 32), "loss": step}, evaluation(step, 32))]
    many[4]["loss"] = float("nan")
    [line, marks] = curves.pretraining_charts([run.read(write(tmp_path, many))])[0].lines
    assert len(line.steps) == curves.MOST
    assert line.values[-1] == line.steps[-1] == pytest.approx(1198.5, abs=0.6)
    assert (len(marks.steps), marks.steps[-1]) == (curves.MARKED, 1200)


TUNED = [
    line for step in (10, 20) for line in (
        {"step": step, "kind": "train", "seq_len": 64, "loss": 1 / step, "learning_rate": 1e-3},
        *({"step": step, "kind": "eval", "split": "validation", "seed": s, "accuracy": 0.5 + s / 10} for s in (0, 1)),
    )
]  # fmt: skip
TUNING = {
    "config": {"task": {"name": "rte", "sha256": {"train": "beef"}}, "num_steps": 20, "init_from": "model"},
    "scores": {"step": 8, "seeds": {"0": {}, "1": {}}, "commonest_class": {"validation": {"accuracy": 0.5}},
               "summary": {"validation": {"accuracy": {"mean": 0.55, "std": 0.07, "best": 0.6}}}},
}  # fmt: skip


def test_a_fine_tuning_has_its_scores(tmp_path, undrawn):
    one = write(tmp_path / "a", TUNED, **TUNING)
    words = Tree(rendered(one)).words()
    assert "Finished: step 20 of 20." in words
    assert "accuracy, validation mean of 2 seeds 0.5500 deviation 0.0700 commonest class 0.5000" in words
    assert "beef" in words
    assert "Predictions for masked words" not in words
    assert "The checks detected" not in words
    charts = curves.finetuning_charts([run.read(one)])
    assert [chart.title for chart in charts] == ["Loss", "accuracy, validation", "Learning rate"]
    assert {(line.label, line.values[0]) for line in charts[1].lines} == {("seed 0", 0.5), ("seed 1", 0.6)}
    assert "steps skipped not measured" in words
    assert "Skipped steps and steps done twice were not measured" in words
    skipped = [line | ({"skipped": 3.0} if line["kind"] == "train" else {}) for line in TUNED]
    config = TUNING["config"] | {"seeds": [0, 1]}
    words = Tree(rendered(write(tmp_path / "c", skipped, **TUNING | {"config": config}))).words()
    assert f"steps skipped {3 * sum(line['kind'] == 'train' for line in TUNED)} of 2 x " in words
    unscored = write(tmp_path / "b", TUNED[:1], **TUNING | {"scores": None})
    assert "scores not measured" in Tree(rendered(unscored)).words()
    assert "2 fine-tunings compared" in Tree(rendered(one, unscored)).words()


FRAME = """<!doctype html><body style="margin: 0">
<iframe id="page" style="border: 0; width: %dpx; height: %dpx"></iframe>
<pre id="measured"></pre><script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument, box = e => { const b = e.getBoundingClientRect();
    return [b.left, b.top, b.right, b.bottom]; };
  document.getElementById("measured").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth, height: page.documentElement.scrollHeight,
    boxes: [...page.querySelectorAll("figure > svg")].map(box)});
};
frame.srcdoc = %s;
</script>"""


def test_a_browser_draws_the_curves_on_a_phone_without_complaints(whole, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip("no Chromium")
    text = json.dumps(whole[0]).replace("</", "<\\/")
    (tmp_path / "frame.html").write_text(FRAME % (PHONE, TALL, text))
    words = (
        *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={PHONE + 200},{TALL}", "--dump-dom",
        f"--screenshot={tmp_path / 'shot.png'}", (tmp_path / "frame.html").as_uri(),
    )  # fmt: skip
    done = subprocess.run([browser, *words], capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    measured = json.loads(re.search(r'<pre id="measured">(.*?)</pre>', done.stdout)[1])
    assert measured["width"] == PHONE
    assert measured["height"] <= TALL
    assert len(measured["boxes"]) == whole[0].count("<figure>") == 8
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
    for left, top, right, bottom in measured["boxes"]:
        assert 0 <= left < right <= PHONE
        box = shot[round(top) : round(bottom), round(left) : round(right)]
        pixels = np.argwhere(np.abs(box - COLOR).max(axis=-1) < 40)
        assert np.ptp(pixels[:, 1]) > 0.6 * (right - left), "no curve from side to side"
