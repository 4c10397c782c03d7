"""Mistakes on the command line, in a config or in its data print one sentence with the fix, and no traceback."""

import pkgutil
import re
import shutil
import sys

from helpers import small_bert, tiny_runs
import pytest

from bert_tpu import configs
from bert_tpu.core import command, config
from bert_tpu.corpus import store
from bert_tpu.distributed import mesh
from bert_tpu.pretrain import __main__ as pretrain
from bert_tpu.pretrain import pretraining
from bert_tpu.training import orbax_setup, train_step, workdir


@pytest.fixture(scope="module")
def options(corpus_dir, tmp_path_factory):
    return tiny_runs.keys(corpus_dir, tmp_path_factory)


@pytest.fixture
def fault(monkeypatch, capsys):
    """Function (words of a command line) -> the one sentence on stderr with which the run ends, with status 1."""

    def run(words):
        monkeypatch.setattr(sys, "argv", ["pretrain", *map(str, words)])
        monkeypatch.setattr(orbax_setup, "quiet", lambda: None)  # its effect lasts until the process ends
        with pytest.raises(SystemExit) as ended:
            command.run(pretrain.main)
        assert isinstance(ended.value.code, str), "the run ended without an error"  # Python prints it and exits with 1
        assert "\n" not in ended.value.code
        assert "Traceback" not in capsys.readouterr().err
        return ended.value.code

    return run


CONFIG = f"--config={tiny_runs.FILE}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config.optm.x=1"], "config has no key optm: did you mean optim?"),
        (["--config.optim.learning_rat=1"], "config.optim has no key learning_rat: did you mean learning_rate?"),
        (["--config.learning_rate=1"], "config has no key learning_rate: did you mean config.optim.learning_rate?"),
        (["--config.xyz=1"], "config has no key xyz: its keys are accumulate, accumulate_long, batch_size,"),
        (["--config.batch_size=abc"], "--config.batch_size=abc: give a whole number"),
        (["--config.num_steps=2.5"], "--config.num_steps=2.5: give a whole number"),
        (["--config.optim.learning_rate=fast"], "--config.optim.learning_rate=fast: give a number"),
        (["--config.optim.learning_rate=nan"], "--config.optim.learning_rate=nan: give a number"),
        (["--config.optim.clip_norm=inf"], "--config.optim.clip_norm=inf: give a number"),
        (["--config.model.remat=maybe"], "--config.model.remat=maybe: give true or false"),
        (["--config.data.seq_lens=(16,"], "--config.data.seq_lens=(16,: give whole numbers such as 128,512"),
        (["--config.data.seq_lens=16.5"], "--config.data.seq_lens=16.5: give whole numbers"),
        (["--config.batch_size", "64"], "--config.batch_size has no value: write --config.batch_size=VALUE"),
        (["--config.optim=1"], "--config.optim=1: config.optim is a section; write --config.optim.KEY=VALUE"),
        (["--config.seed.x=1"], "--config.seed.x=1: config.seed is a value, not a section; write --config.seed=VALUE"),
        (["--config.log.tensorboard=true"], "config.log.tensorboard is gone: log.to names the trackers"),
        (["--config.log.to=a,,b"], "--config.log.to=a,,b: give names such as a,b, or () for none"),
        (["--config.model.softmax=exact"], "config.model.softmax is gone: attention has one form now, which takes any"),
        (["stray"], "unrecognized arguments: stray"),
        (["--confg=1"], "unrecognized arguments: --confg=1"),
    ],
)
def test_a_mistake_in_a_key_or_value_is_named(fault, tmp_path, words, sentence):
    assert fault([CONFIG, f"--workdir={tmp_path / 'run'}", *words]).startswith(f"error: {sentence}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workdir=w"], "error: the following arguments are required: --config"),
        ([CONFIG], "error: the following arguments are required: --workdir"),
        (
            ["--workdir=w", "--config=none.py"],
            "error: no config none.py: give a file, or one of bert, fast, mlm, demo",
        ),
        (["--workdir=w", "--config=configs"], "error: no config configs: "),
        (["--workdir=w", "--config=configs/bert.py:huge"], "no variant 'huge': choose from micro, mini,"),
        (["--workdir=w", "--config=configs/demo.py:huge"], "configs/demo.py has no variants"),
        (
            ["--workdir=w", "--config=glue:rte"],
            "config glue:rte is for bert-tpu finetune: give one of bert, fast, mlm,",
        ),
        (["--workdir=w", "--config=configs/tuning.py"], "configs/tuning.py needs a variant, the argument of its"),
        (
            ["--workdir=w", "--config=README.md"],
            "README.md is not a config, which is a Python file with a function get_config",
        ),
        (
            ["--workdir=w", "--config=configs/__init__.py"],
            "is not a config, which is a Python file with a function get_config",
        ),
    ],
)
def test_a_file_that_is_not_a_config_is_named(fault, words, sentence):
    assert sentence in fault(words)


def test_each_config_of_the_package_is_of_one_kind():
    files = {module.name for module in pkgutil.iter_modules(configs.__path__)} - {"tuning"}  # the base of four others
    assert sorted(config.names()) == sorted(files)
    for kind in config.KINDS:
        for name in kind.names:
            assert [other for other in config.KINDS if other.key in config.load(name, kind)] == [kind]


def test_values_are_read_as_the_type_that_they_replace():
    words = ["seed=7", "optim.learning_rate=3e-4", "model.remat=True", "data.dir=a=b", "data.seq_lens=128"]
    lists = ["data.max_predictions=[20,76]", "num_steps=1_000"]
    args = config.parse(command.Parser(), config.PRETRAINING, [CONFIG, *(f"--config.{word}" for word in words + lists)])
    cfg = args.config
    assert (cfg.seed, cfg.optim.learning_rate, cfg.model.remat, cfg.data.dir) == (7, 3e-4, True, "a=b")
    assert (cfg.data.seq_lens, cfg.data.max_predictions, cfg.num_steps) == ((128,), (20, 76), 1000)


@pytest.mark.parametrize(
    "change",
    [
        "checkpoint.every_steps=0", "checkpoint.keep_last=0", "checkpoint.keep_every=-1", "eval.every_steps=0",
        "eval.num_batches=-1", "log.every_steps=0", "log.every_steps=-5", "accumulate=0", "accumulate=-1",
        "num_steps=0", "batch_size=0", "batch_size=-8", "seed=-1", "profile.num_steps=-1", "model.num_heads=0",
        "model.hidden_size=0", "model.num_layers=0", "optim.warmup_steps=-1", "optim.learning_rate=-0.1",
        "optim.clip_norm=-1", "optim.weight_decay=-1", "optim.b1=1", "optim.rate_width=-1", "optim.warmup_share=1.0",
        "num_steps=2147483648", "batch_size=9223372036854775808", "model.layer_norm_eps=-0.1", "plan.price.v4=-1.0",
        "nonfinite.stop_after=-1", "watchdog.silent_s=1", "watchdog.stacks_s=-1", "watchdog.exit_s=5",
    ],
)  # fmt: skip
def test_a_number_outside_its_range_is_named(fault, options, tmp_path, change):
    key, value = change.split("=")
    message = fault([*tiny_runs.words(options, tmp_path / "run"), f"--config.{change}"])
    assert re.search(rf"\b{re.escape(key)} (is )?{value}", message)
    assert not (tmp_path / "run").exists()


def test_a_config_file_of_an_earlier_release_is_refused_and_a_stored_config_is_read_without_its_keys(options, tmp_path):
    cfg = tiny_runs.configured(options).unlock()
    now = cfg.to_dict()
    cfg.model.softmax = "bounded"
    with pytest.raises(command.UserError, match=r"config\.model\.softmax is gone: .* leave that key out"):
        pretraining.run(cfg, tmp_path / "run")
    assert config.current(cfg.to_dict() | {"bert": cfg.model.to_dict()}) == now | {"bert": now["model"]}


@pytest.mark.parametrize(
    "section", ["", "model", "data", "optim", "checkpoint", "eval", "log", "profile", "nonfinite", "watchdog"]
)
def test_an_unknown_or_missing_key_of_a_config_file_is_named(options, tmp_path, section):
    for change, sentence in (
        (lambda keys: keys.update(bogus=1), "has no key bogus"),
        (lambda keys: keys.__delitem__(max(keys)), "lacks"),
    ):
        cfg = tiny_runs.configured(options).unlock()
        change(cfg[section] if section else cfg)
        with pytest.raises(command.UserError, match=sentence):
            pretraining.run(cfg, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data.dir": ""}, "no corpus: give --config.data.dir=DIR"),
        ({"data.dir": "configs"}, "configs is not a corpus, it has no corpus.json: give the --out of bert-tpu prepare"),
        ({"data.dir": "nowhere"}, "corpus nowhere does not exist"),
        ({"model.vocab_size": 401}, "a vocabulary of 400 pieces and the config one of 401: give --config.model.vocab_"),
        ({"model.vocab_size": 399}, "a vocabulary of 400 pieces and the config one of 399: give --config.model.vocab_"),
        (
            {"data.seq_lens": (16, 64)},
            "max_positions 32 is less than the rows' 64 tokens: give --config.data.seq_lens=16,32 "
            "--config.data.max_predictions=2,5, or a model with more positions",
        ),
        ({"optim.name": "sgd"}, "'sgd' is none of bert_adamw, adamw, lamb"),
        (
            {"init_from": "nowhere"},
            "there is no nowhere: give a Hugging Face directory, a run's workdir or checkpoint, or an imp",
        ),
        ({"model.type_vocab_size": 1}, "config.model.type_vocab_size is 1: give 2 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_named(fault, options, tmp_path, changes, sentence):
    assert sentence in fault(tiny_runs.words(options | changes, tmp_path / "run"))


def test_a_corpus_of_another_vocabulary_than_init_from_is_named_before_the_config(fault, options, tmp_path):
    model = small_bert.save(tmp_path / "bert")
    for size in (400, 401):
        sentence = fault(tiny_runs.words(options | {"init_from": str(model), "model.vocab_size": size}, tmp_path / "r"))
        assert "pieces and the corpus' 400" in sentence
        assert "prepare the corpus with --tokenizer" in sentence
        assert "--config.model.vocab_size" not in sentence


def test_the_proposed_batch_size_divides(fault, options, tmp_path):
    devices = mesh.make(pretraining.jax.devices()).size
    for batch_size, accumulate in ((9, 1), (33, 2), (1, 3)):
        message = fault(
            tiny_runs.words(options | {"batch_size": batch_size, "accumulate": accumulate}, tmp_path / "run")
        )
        proposed = int(re.search(rf"batch_size {batch_size} does not divide over 8 devices .*; try (\d+)", message)[1])
        pretraining.make_batch_spec(tiny_runs.configured(options, batch_size=proposed)).check_division(
            devices, dict.fromkeys((16, 32), accumulate)
        )


def test_a_workdir_that_cannot_be_written_is_named(fault, options, tmp_path):
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'}" in fault(tiny_runs.words(options, tmp_path / "file" / "run"))
    cache = {"compile_cache": str(tmp_path / "file" / "cache")}
    assert "cannot be written: give another --config.compile_cache" in fault(
        tiny_runs.words(options | cache, tmp_path / "run")
    )
    assert "may not be read or written" in fault(tiny_runs.words(options, "/sys/run"))  # even root may not


@pytest.fixture
def own_corpus(corpus_dir, tmp_path):
    return shutil.copytree(corpus_dir, tmp_path / "corpus")


def test_an_error_in_the_data_needs_no_new_workdir(fault, options, own_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(
        train_step, "compile_programs", lambda *_, **__: train_step.Programs({}, {})
    )  # compiling goes on in a thread of its own
    words = tiny_runs.words(options | {"data.dir": own_corpus}, tmp_path / "run")
    shard = own_corpus / store.read(own_corpus).splits["train"][0].file
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    assert f"shard {shard} is damaged" in fault(words)
    shard.unlink()
    assert f"shard {shard} is missing" in fault(words)
    # As nothing is trained yet, another corpus or batch size may fix it in the same workdir.
    larger = {"batch_size": 80_000, "eval.num_batches": 0}  # no evaluation: it would draw batches for seconds
    assert "too small for one batch" in fault(tiny_runs.words(options | larger, tmp_path / "run"))


def test_a_second_run_in_a_workdir_is_refused(fault, options, tmp_path):
    with workdir.claim(tmp_path, {}):
        assert fault(tiny_runs.words(options, tmp_path)).startswith(
            f"error: another run is using {tmp_path}: stop it or"
        )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"corpus": {"sha256": "0123"}}, r"corpus.sha256 is '0123' there and '[0-9a-f]{64}' here"),
        ({"seed": 5}, "seed is 5 there and 0 here"),
    ],
)
def test_a_workdir_of_another_corpus_or_config_is_refused(fault, options, lock, tmp_path, change, sentence):
    hashes = {"sha256": lock.sha256, "tokenizer_sha256": lock.tokenizer_sha256}
    with workdir.claim(tmp_path, tiny_runs.configured(options).to_dict() | {"corpus": hashes} | change):
        (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    assert re.search(sentence, fault(tiny_runs.words(options, tmp_path)))


def test_evaluation_without_evaluation_text_is_refused(options, lock, monkeypatch):
    bare = lock.content | {"heldout": lock.content["heldout"] | {"texts": 1}}  # one text, perhaps in two pieces
    monkeypatch.setattr(store, "read", lambda directory: lock._replace(content=bare))
    with pytest.raises(command.UserError, match=r"fewer than two held-out texts .* give --config.eval.num_batches=0"):
        pretraining.open_corpus(tiny_runs.configured(options))
    pretraining.open_corpus(tiny_runs.configured(options, **{"eval.num_batches": 0}))


@pytest.mark.parametrize(
    ("text", "names"),
    [("tensorboard", ("tensorboard",)), ("a, b", ("a", "b")), ("('a','b')", ("a", "b")), ("()", ()), ("", ())],
)
def test_names_are_read_as_people_write_them(text, names):
    assert config.load_changed("configs/bert.py:micro", [f"--config.log.to={text}"]).log.to == names
