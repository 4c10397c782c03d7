"""A workdir belongs to one config and one corpus, and to one process at a time."""

import json
import re

import pytest

from bert_tpu.core import command
from bert_tpu.core import config as configs
from bert_tpu.monitoring import versions
from bert_tpu.training import workdir

CONFIG = {
    "seed": 0,
    "compile_cache": "a",
    "model": {"softmax": "bounded", "remat": False},  # a key of earlier releases
    "bert": {"softmax": "bounded", "remat": False},
    "data": {"dir": "here", "seq_lens": (128, 512)},
    "optim": {"learning_rate": 1e-4},
    "log": {"every_steps": 10},
    "eval": {"every_steps": 10},
    "checkpoint": {"every_steps": 10},
    "profile": {"num_steps": 0},
    "watchdog": {"exit_s": 0},
    "nonfinite": {"stop_after": 20},
    "corpus": {"sha256": "c0ffee"},
}


def changed(key, value):
    section, _, last = key.rpartition(".")
    return CONFIG | ({section: CONFIG.get(section, {}) | {last: value}} if section else {last: value})


def claim(directory, config=CONFIG):
    with workdir.claim(directory, config):
        pass


@pytest.fixture
def directory(tmp_path):
    """The workdir of a run that has a checkpoint."""
    claim(tmp_path)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    return tmp_path


def test_same_config_goes_on(directory):
    claim(directory)
    assert workdir.read_config(directory)["optim"] == {"learning_rate": 1e-4}


@pytest.mark.parametrize(
    ("key", "value", "both"),
    [
        ("seed", 1, "seed is 0 there and 1 here"),
        ("optim.learning_rate", 3e-4, "optim.learning_rate is 0.0001 there and 0.0003 here"),
        ("data.seq_lens", (128,), r"data.seq_lens is \[128, 512\] there and \[128\] here"),
        ("data.new", 1, "data.new is None there and 1 here"),
        ("corpus.sha256", "cafe", r"corpus.sha256 is 'c0ffee' there and 'cafe' here \(data.dir .*; it was .*\)"),
    ],
)
def test_another_config_is_refused_with_both_values(directory, key, value, both):
    before = (directory / "config.json").read_bytes()
    with pytest.raises(
        command.UserError, match=rf"belongs to another config: {both}; give another --workdir, or restore"
    ):
        claim(directory, changed(key, value))
    assert (directory / "config.json").read_bytes() == before
    claim(directory)


def test_all_keys_that_differ_are_named_at_once(directory):
    other = changed("data.seq_lens", (128,)) | {"seed": 1} | {f"new{n}": n for n in range(1, 5)}
    with pytest.raises(command.UserError) as refused:
        claim(directory, other)
    message = str(refused.value)
    assert all(f"{key} is None there" in message for key in ("new1", "new2", "new3", "new4"))
    assert message.count(" there and ") == 5
    assert message.endswith(", and 1 more; give another --workdir, or restore the old values")


@pytest.mark.parametrize(
    "key",
    [
        "log.every_steps",
        "eval.every_steps",
        "checkpoint.every_steps",
        "profile.num_steps",
        "watchdog.exit_s",
        "nonfinite.stop_after",
        "compile_cache",
        "data.dir",
        "model.softmax",
        "model.remat",
        "bert.softmax",
        "bert.remat",
        "exchange",
    ],
)
def test_what_alters_no_parameter_may_change(directory, key):
    claim(directory, changed(key, "other"))
    claim(directory)
    assert workdir.identity(changed(key, "other")) == workdir.identity(CONFIG)


def test_a_run_of_an_earlier_release_goes_on_without_the_keys_that_are_gone(directory):
    config = CONFIG | {"model": {"remat": False}, "bert": {"remat": False}}
    claim(directory, config)
    assert workdir.read_config(directory)["model"] == {"remat": False}
    assert workdir.identity(config) == workdir.identity(CONFIG)
    assert workdir.model_section(CONFIG | {"bert": {"softmax": "exact", "num_heads": 2}}) == {
        "num_heads": 2, "remat": False,
    }  # fmt: skip


@pytest.mark.parametrize(("key", "off"), [item for item in configs.ADDED.items() if item[0] not in workdir.FREE])
def test_a_run_of_an_earlier_release_goes_on_if_a_key_that_it_lacks_is_off(directory, key, off):
    assert workdir.identity(changed(key, off)) == workdir.identity(CONFIG) != workdir.identity(changed(key, "on"))
    with pytest.raises(command.UserError, match=re.escape(f"{key} is {off!r} there and 'on' here")):
        claim(directory, changed(key, "on"))
    claim(directory, changed(key, off))
    with pytest.raises(command.UserError, match=re.escape(f"{key} is {off!r} there and 'on' here")):
        claim(directory, changed(key, "on"))
    claim(directory)  # such as a config file of the user's that lacks the key


def test_a_config_is_the_same_run_before_and_after_it_is_written():
    cfg = configs.load("bert:micro").to_dict()
    assert workdir.identity(cfg) == workdir.identity(json.loads(json.dumps(cfg)))


def test_a_card_of_an_earlier_release_still_knows_its_run():
    """The digits that commit e7c24f4 wrote for CONFIG."""
    assert workdir.has_identity(CONFIG, "f49f4afbaebe7451")
    assert workdir.has_identity(CONFIG, workdir.identity(CONFIG))
    assert not workdir.has_identity(changed("seed", 1), "f49f4afbaebe7451")
    assert not workdir.has_identity(changed("seed", 1), workdir.identity(CONFIG))


@pytest.mark.parametrize("number", [None, 1, 2, workdir.FORMAT + 1])
@pytest.mark.parametrize("is_tuning", [False, True])
def test_a_run_that_another_release_began_is_refused_with_what_to_do(directory, number, is_tuning):
    config = CONFIG | ({"task": {"name": "rte"}} if is_tuning else {})
    (directory / "config.json").write_text(json.dumps(config))
    versions.record(directory, 0)
    commit = versions.read(directory)[-1]["commit"]
    (directory / workdir.FORMAT_FILE).unlink()
    if number:
        (directory / workdir.FORMAT_FILE).write_text(json.dumps({"format": number}))
    if is_tuning and number == 2:
        claim(directory, config)  # format 3 changed pretraining alone
        return
    before = {path: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    with pytest.raises(command.UserError) as refused:
        claim(directory, config)
    start = "a new --workdir"
    if not is_tuning:
        start += f" with --config.init_from={directory}"
        start += " and a corpus that this release has prepared" if number in (None, 1) else ""
    release = "a later" if number == workdir.FORMAT + 1 else "an earlier"
    assert str(refused.value) == (
        f"{directory} was begun by {release} release, whose batches or optimizer state differ from this one's: finish "
        f"it with that release (commit {commit}), or start {start}"
    )
    assert {path: path.read_bytes() for path in directory.iterdir() if path.is_file()} == before
    assert workdir.read_config(directory) == json.loads(json.dumps(config))  # reading goes on


def test_without_a_checkpoint_a_workdir_of_another_release_is_begun_again(tmp_path):
    claim(tmp_path)
    (tmp_path / workdir.FORMAT_FILE).unlink()
    claim(tmp_path)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    claim(tmp_path)


def test_without_a_checkpoint_a_mistaken_config_may_be_fixed(tmp_path):
    claim(tmp_path)
    claim(tmp_path, changed("seed", 1))
    assert workdir.read_config(tmp_path)["seed"] == 1


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config.json", '{"model_type": "bert"}', "holds a Hugging Face model"),
        ("book.txt", "Call me Ishmael.", "holds book.txt and no run"),
        ("corpus.json", "{}", "holds corpus.json and no run"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, name, content, complaint):
    (tmp_path / name).write_text(content)
    with pytest.raises(command.UserError, match=complaint):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [name]
    assert (tmp_path / name).read_text() == content


def test_a_config_that_was_being_written_is_no_stranger(tmp_path):
    (tmp_path / "config.json.7.partial").write_text('{"se')
    claim(tmp_path)


def test_only_one_run_at_a_time(tmp_path):
    with workdir.claim(tmp_path, CONFIG), pytest.raises(command.UserError, match="another run is using"):
        claim(tmp_path)
    with pytest.raises(ZeroDivisionError), workdir.claim(tmp_path, CONFIG):
        raise ZeroDivisionError
    claim(tmp_path)


def test_damaged_or_missing_config_is_named(directory):
    (directory / "config.json").write_text('{"seed"')
    with pytest.raises(command.UserError, match=r"config.json is damaged"):
        claim(directory)
    (directory / "config.json").unlink()
    with pytest.raises(command.UserError, match="holds no run, it has no config"):
        workdir.read_config(directory)
    (directory / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(command.UserError, match="holds no run, it is a Hugging Face model: give"):
        workdir.read_config(directory)
