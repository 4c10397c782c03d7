"""The env file is read and never executed; a wrong value is refused with an error that names a correct one."""

import pathlib
import re
import string
import subprocess

from conftest import ROOT
from helpers.fake_cloud import ENV
from hypothesis import given, settings, strategies
import pytest

NAMES = re.search(r'SETTINGS="(.*)"', (ROOT / "launch/settings.sh").read_text())[1].split()
VALID = ENV | {
    "RUNTIME": "v2-alpha-tpuv5-lite", "CORPUS": "gs://my-bucket/corpora/wiki", "NETWORK": "default",
    "SUBNETWORK": "default", "SERVICE_ACCOUNT": "trainer@my-project-123.iam.gserviceaccount.com",
}  # fmt: skip
# Reads each file named on stdin, and prints its settings or the error, ended by a zero byte.
READER = """
set -euo pipefail
fail() { printf 'error: %s' "$*"; exit 1; }
. launch/settings.sh
while IFS= read -r file; do
  ( read_settings "$file"; for key in $SETTINGS; do printf '%s=%s\\n' "$key" "${!key}"; done ) || :
  printf '\\0'
done
"""


class Reader:
    """One bash that reads many files. An executed value would create the file `mark` in its folder."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "pod.env"
        self.process = subprocess.Popen(
            ["bash", "-c", READER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "MARK": str(folder / "mark"), "HOME": str(folder), "NAME": "leaked"},
        )  # fmt: skip

    def read(self, text):
        """Returns the settings in an env file of `text`, or the error."""
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        self.process.stdin.write(f"{self.file}\n".encode())
        self.process.stdin.flush()
        output = bytearray()
        while (byte := self.process.stdout.read(1)) != b"\0":
            assert byte, output
            output += byte
        return output.decode(errors="replace")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    bash = Reader(tmp_path_factory.mktemp("settings"))
    with bash.process:
        yield bash


def lines(values):
    return "".join(f"{key}={value}\n" for key, value in values.items())


def test_the_example_is_a_valid_file_and_names_every_setting(reader):
    text = (ROOT / "launch/tpu_pod.env.example").read_text()
    assert "PROJECT=my-project-123\n" in reader.read(text)
    assert {line.lstrip("#").split("=")[0] for line in text.splitlines() if re.match(r"#?[A-Z_]+=", line)} == set(NAMES)


def test_values_arrive_and_others_are_empty(reader):
    assert reader.read(lines(VALID)) == lines({name: VALID[name] for name in NAMES})
    few = {key: ENV[key] for key in ("PROJECT", "ZONE", "NAME", "ACCELERATOR", "BUCKET")}
    read = dict(line.split("=", 1) for line in reader.read(lines(few)).splitlines())
    assert (read["CAPACITY"], read["CREATE"], read["CORPUS"]) == ("on-demand", "queued", "")


def test_comments_quotes_spaces_and_windows_lines(reader):
    text = ' PROJECT = "my-project-123"   # who pays\r\n' + lines({k: v for k, v in VALID.items() if k != "PROJECT"})
    assert reader.read(f"\ufeff# a comment\n\n   # another\n{text}") == reader.read(lines(VALID))


ATTACKS = (
    "$(touch $MARK)", "`touch $MARK`", "x; touch $MARK", "x && touch $MARK", "x | touch $MARK", "x\ttouch $MARK",
    "$MARK", "${MARK}", "a[$(touch $MARK)]", "gs://b$(touch $MARK)", '";touch $MARK;"', "';touch $MARK;'",
    "-rf", "--project=x",
    "../../etc/passwd", "gs://my-bucket/../x y", "*", "~", "x y", "a" * 500, "bert\\", "é", "$'\\x41'",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_refused_with_an_example(reader, name):
    for attack in ATTACKS:
        output = reader.read(lines(VALID | {name: attack}))
        assert re.search(rf"error: .* line \d+: {name} cannot be .*; use a value like {name}=\S+$", output), (
            attack,
            output,
        )
    assert not (reader.folder / "mark").exists()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_value_counts_as_left_out(reader, name):
    output, blank = (reader.read(lines(VALID | {name: value})) for value in ("", "  "))
    assert output == blank
    if name in ENV and name not in ("CAPACITY", "CREATE"):
        assert f"{name} cannot be ''; use a value like" in output
    else:
        left_out = {key: value for key, value in VALID.items() if key != name}
        assert output == reader.read(lines(left_out))


@pytest.mark.parametrize(
    ("accelerator", "unit"), [("v3-3", "a multiple of 8"), ("v4-17", "a multiple of 8"), ("v5litepod-13", "of 4")]
)
def test_an_impossible_number_of_chips_is_refused(reader, accelerator, unit):
    output = reader.read(lines(VALID | {"ACCELERATOR": accelerator}))
    assert re.search(rf"error: there is no {accelerator}: a host has .*{unit}$", output)


SHELL = strategies.sampled_from(
    ["$(touch $MARK)", "`touch $MARK`", ";touch $MARK;", "\ntouch $MARK\n", "$MARK", '"', "'"]
)
TEXT = strategies.lists(SHELL | strategies.text(string.printable, max_size=8) | strategies.text(max_size=4), max_size=5)
SAFE = re.compile(r"[A-Za-z0-9:/@._-]*")


@settings(max_examples=300, deadline=None)
@given(name=strategies.sampled_from(NAMES) | strategies.text(max_size=12), parts=TEXT)
def test_nothing_of_a_file_is_executed_and_no_odd_byte_gets_through(reader, name, parts):
    text = (lines(VALID) if name not in NAMES else lines({k: v for k, v in VALID.items() if k != name})) + f"{name}="
    output = reader.read((text + "".join(parts)).encode(errors="surrogatepass"))
    assert not (reader.folder / "mark").exists()
    if not output.startswith("error: "):
        values = dict(line.split("=", 1) for line in output.splitlines())
        assert values.keys() == set(NAMES)
        assert all(SAFE.fullmatch(value) for value in values.values())


def test_a_line_may_begin_with_export(reader):
    assert reader.read("".join(f"export {key}={value}\n" for key, value in VALID.items())) == reader.read(lines(VALID))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ZOME=us-central1-a", "there is no setting ZOME; did you mean ZONE?"),
        ("ACELERATOR=v4-8", "did you mean ACCELERATOR?"),
        ("bucket=gs://x", "did you mean BUCKET?"),
        ("PROJECT ZONE=x", "is not a setting; the settings are PROJECT, ZONE, "),
        ("NAME[$(touch $MARK)]=x", "is not a setting"),
        ("NAME", "is not a NAME=VALUE line"),
        ("export ZONE=us-central1-a", "ZONE is set twice"),
        ("export ZONE", "is not a NAME=VALUE line"),
        ("NAME=other", "NAME is set twice"),
    ],
)
def test_a_wrong_line_is_named(reader, line, sentence):
    output = reader.read(lines(VALID) + line)
    assert f"line {len(VALID) + 1}: " in output
    assert sentence in output
    assert not (reader.folder / "mark").exists()


@pytest.mark.parametrize("name", ["PROJECT", "ZONE", "NAME", "ACCELERATOR", "BUCKET"])
def test_a_missing_setting_is_named(reader, name):
    output = reader.read(lines({key: value for key, value in VALID.items() if key != name}))
    assert f"does not set {name}: add a line such as {name}=" in output


def test_a_missing_file_is_named(reader):
    reader.file.unlink(missing_ok=True)
    reader.process.stdin.write(f"{pathlib.Path('/nowhere/pod.env')}\n".encode())
    reader.process.stdin.flush()
    output = b""
    while not output.endswith(b"\0"):
        output += reader.process.stdout.read(1)
    assert b"copy launch/tpu_pod.env.example" in output
