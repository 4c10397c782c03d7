"""GLUE's official files and TFDS give the same rows, outputs become the server's files, and bad data is named."""

import zipfile

from helpers.glue_files import read, write
from helpers.token_row_cases import LETTERS, VOCABULARY
from hypothesis import HealthCheck, given, settings, strategies
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.readers import tfds
from bert_tpu.tasks import glue, glue_specs, glue_submission

# The first lines of official files, their texts shortened to what the tests' vocabulary knows; label None in a test.
OFFICIAL = {
    "cola": {
        "CoLA/train.tsv": "gj04\t1\t\ta b.\nks08\t0\t*\tb a.\n",
        "CoLA/dev.tsv": "gj04\t1\t\tc\n",
        "CoLA/test.tsv": "index\tsentence\n0\td\n1\te\n",
    },
    "sst2": {
        "SST-2/train.tsv": "sentence\tlabel\na b \t0\nc . \t1\n",
        "SST-2/dev.tsv": "sentence\tlabel\nd \t1\n",
        "SST-2/test.tsv": "index\tsentence\n0\te .\n",
    },
    "mrpc": {
        "MRPC/train.tsv": (
            "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
            '1\t702876\t702977\ta\t"b\r\n'
            '0\t2108705\t2108831\tc" d\te\r\n'
        ),
        "MRPC/dev.tsv": '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t13\t14\t"a\tb\n',
        "MRPC/test.tsv": "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t10\t11\ta\tb\n",
    },
    "stsb": {
        "STS-B/train.tsv": (
            "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
            "0\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\ta\tb\t5.000\n"
            "1\tmain-news\theadlines\t2016\t1492\tnone\tnone\tc\td\t0\n"
        ),
        "STS-B/test.tsv": (
            "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\n"
            "0\tmain-captions\tMSRvid\t2012test\t0024\tnone\tnone\ta\tb\n"
        ),
    },
    "qqp": {
        "QQP/train.tsv": (
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
            "133273\t213221\t213222\ta\tb\t0\n"
            "402555\t536040\t536041\tc\n"  # a question with a line break
            "d\te\t1\n"
            "360472\t364011\t490273\te\tf\t1\n"
        ),
        "QQP/test.tsv": "id\tquestion1\tquestion2\n0\ta\tb\n",
    },
    "mnli": {
        "MNLI/train.tsv": (
            "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
            "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
            "0\t31193\t31193n\tgovernment\t( x )\t( x )\t(ROOT x)\t(ROOT x)\ta\tb\tneutral\tneutral\n"
            "1\t101457\t101457e\ttelephone\t( x )\t( x )\t(ROOT x)\t(ROOT x)\tc\td\tentailment\tentailment\n"
        ),
        "MNLI/dev_matched.tsv": (
            "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
            "sentence2_parse\tsentence1\tsentence2\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
            "0\t63735\t63735n\tslate\t( x )\t( x )\t(ROOT x)\t(ROOT x)\ta\tb\t"
            "neutral\tneutral\tcontradiction\tneutral\tcontradiction\tcontradiction\n"
        ),
        "MNLI/dev_mismatched.tsv": (
            "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
            "sentence2_parse\tsentence1\tsentence2\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
            "0\t75290\t75290c\tletters\t( x )\t( x )\t(ROOT x)\t(ROOT x)\tc\td\t"
            "neutral\tneutral\tneutral\tneutral\tneutral\tneutral\n"
        ),
        "MNLI/test_mismatched.tsv": (
            "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
            "sentence2_parse\tsentence1\tsentence2\n"
            "0\t31493\t31493\ttravel\t( x )\t( x )\t(ROOT x)\t(ROOT x)\ta\tb\n"
        ),
        "AX/AX.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n1\tb\ta\n",
        "diagnostic/diagnostic-full.tsv": (
            "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel\n"
            "\t\tNegation\t\tArtificial\tnever\tread\tcontradiction\n"
        ),
    },
    "qnli": {"QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n"},
    "rte": {
        "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\tc\u2028d\te\tentailment\n",
        "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n",
        "RTE/test.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n",
    },
    "wnli": {
        "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n1\tc\td\t0\n",
        "WNLI/test.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n",
    },
}
READ = {  # split -> (text of every row, label)
    "cola": {"train": [("a b .", 1), ("b a .", 0)], "validation": [("c", 1)], "test": [("d", -1), ("e", -1)]},
    "sst2": {"train": [("a b", 0), ("c .", 1)], "validation": [("d", 1)], "test": [("e .", -1)]},
    "mrpc": {
        "train": [("a|[UNK] b", 1), ("c [UNK] d|e", 0)],
        "validation": [("[UNK] a|b", 1)],
        "test": [("a|b", -1)],
    },
    "stsb": {"train": [("a|b", 5.0), ("c|d", 0.0)], "test": [("a|b", -1.0)]},
    "qqp": {"train": [("a|b", 0), ("e|f", 1)], "test": [("a|b", -1)]},
    "mnli": {
        "train": [("a|b", 1), ("c|d", 0)],
        "validation_matched": [("a|b", 2)],
        "validation_mismatched": [("c|d", 1)],
        "test_mismatched": [("a|b", -1)],
        "ax_test": [("a|b", -1), ("b|a", -1)],
    },
    "qnli": {"validation": [("a|b", 0), ("c|d", 1)]},
    "rte": {"train": [("a|b", 1), ("c d|e", 0)], "validation": [("a|b", 0)], "test": [("a|b", -1)]},
    "wnli": {"train": [("a|b", 1), ("c|d", 0)], "test": [("a|b", -1)]},
}


def load(task, dir, max_length=32):
    return glue.load(task=task, dir=str(dir), max_length=max_length, vocabulary=VOCABULARY)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_are_read_to_the_letter(tmp_path, name, capsys):
    task = load(name, write(tmp_path, OFFICIAL[name]))
    assert read(task) == READ[name]
    assert (task.name, task.head) == (name, "regress" if name == "stsb" else "classify")
    assert task.splits[next(iter(task.splits))].labels.dtype == (np.float32 if name == "stsb" else np.int32)
    assert task.eval_splits == tuple(split for split in READ[name] if split.startswith("validation"))
    # Only QQP has torn lines, and their number is printed.
    warning = f"{tmp_path}/QQP/train.tsv: 2 torn lines are left out, the first line 3\n" if name == "qqp" else ""
    assert capsys.readouterr().err == warning


def test_a_validation_file_may_have_hugging_face_s_name(tmp_path):
    files = {name.replace("SST-2/dev", "sst2/validation"): text for name, text in OFFICIAL["sst2"].items()}
    files = {name.replace("SST-2", "sst2"): text for name, text in files.items()}
    task = load("sst2", write(tmp_path, files))
    assert (read(task), task.eval_splits, task.notes) == (READ["sst2"], ("validation",), ())


def test_a_file_that_is_not_read_is_named_and_so_is_a_run_without_scores(tmp_path):
    quoted = 'sentence\tlabel\n"a ""b"" c"\t0\nd\t1\n'
    task = load("sst2", write(tmp_path, {"SST-2/train.tsv": quoted, "SST-2/valid.tsv": quoted}))
    assert "1 row with a text in quotes" in task.notes[0]
    assert "valid.tsv is not read; GLUE's names are dev.tsv, test.tsv, train.tsv, validation.tsv" in task.notes[1]
    assert task.notes[2] == "no labelled split except train, so nothing is scored"


@pytest.mark.parametrize("name", ["rte", "mnli"])
def test_a_task_s_own_folder_is_the_same(tmp_path, name):
    write(tmp_path, OFFICIAL[name])
    assert read(load(name, tmp_path / name.upper())) == READ[name]


def test_the_answers_to_the_diagnostics_are_judged_by_matthews(tmp_path):
    write(tmp_path, OFFICIAL["mnli"])
    (tmp_path / "diagnostic/diagnostic-full.tsv").rename(tmp_path / "AX/diagnostic-full.tsv")
    task = load("mnli", tmp_path)
    assert task.eval_splits == ("validation_matched", "validation_mismatched", "ax_answers")
    assert read(task)["ax_answers"][0][1] == task.labels.index("contradiction")
    assert task.score("ax_answers", np.eye(3)[[2]]) == {"matthews": 0.0}
    alone = load("ax", tmp_path)
    assert alone.eval_splits == ("answers",)
    assert read(alone)["test"] == READ["mnli"]["ax_test"]


def test_the_table_is_that_of_tfds():
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.text import glue as peer

    for config in peer.Glue.BUILDER_CONFIGS:
        if config.name.startswith("mnli_"):
            continue
        ours = glue_specs.TASKS[config.name]
        assert ours.classes == tuple(config.label_classes or ())
        assert ours.features == tuple(config.text_features)
        if config.name in ("mrpc", "cola", "ax"):  # TFDS makes MRPC from other files, CoLA's have no header
            continue
        assert ours.files["train"].texts == tuple(config.text_features.values())
        assert {file.label for file in ours.files.values()} == {config.label_column}


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """TFDS's glue/rte, stsb, mnli and ax in small."""
    tfds = pytest.importorskip("tensorflow_datasets")
    texts = [(LETTERS[i], LETTERS[-i - 1]) for i in range(8)]

    class SmallGlue(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("rte", "stsb", "mnli", "ax")]  # noqa: RUF012

        def _info(self):
            task = glue_specs.TASKS[self.builder_config.name]
            label = tfds.features.ClassLabel(names=list(task.classes)) if task.classes else np.float32
            features = {name: tfds.features.Text() for name in task.features} | {"label": label, "idx": np.int32}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {
                split: self._generate_examples(split, "test" not in split)
                for split in glue_specs.TASKS[self.builder_config.name].files
                if split != "answers"
            }

        def _generate_examples(self, split, labelled):
            first, second = glue_specs.TASKS[self.builder_config.name].features
            for i, (a, b) in enumerate(texts):
                yield i, {first: a, second: b, "label": i % 2 if labelled else -1, "idx": i}

    directory = tmp_path_factory.mktemp("tfds")
    for name in ("rte", "stsb", "mnli", "ax"):
        SmallGlue(config=name, data_dir=directory).download_and_prepare(file_format="tfrecord")
    return directory


@pytest.mark.parametrize("name", ["rte", "stsb", "mnli"])
def test_tfds_gives_rows_in_the_order_of_the_official_files(tfds_dir, name):
    splits = read(load(name, f"tfds:small_glue/{name}?data_dir={tfds_dir}"))
    assert set(splits) == set(glue_specs.TASKS[name].files) | ({"ax_test"} if name == "mnli" else set())
    for split, rows in splits.items():
        texts = [f"{LETTERS[i]}|{LETTERS[-i - 1]}" for i in range(8)]
        assert rows == [(text, -1 if "test" in split else i % 2) for i, text in enumerate(texts)]


def test_tfds_of_another_task_is_refused(tfds_dir):
    for task, name, complaint in (
        ("wnli", "stsb?", "has the label 0.0, which is not one of 0, 1"),
        ("mnli", "rte?", "no feature 'premise' but "),
        ("rte", "rte?split=test&", "only data_dir"),
        ("rte", "none?", "no data set"),
    ):
        with pytest.raises(command.UserError, match=complaint):
            load(task, f"tfds:small_glue/{name}data_dir={tfds_dir}")


def test_a_test_split_of_tfds_with_labels_is_refused(monkeypatch):
    table = {"sentence1": ["a"], "sentence2": ["b"], "label": ["entailment"], "idx": [7]}
    monkeypatch.setattr(tfds, "tables", lambda name, features: {"test": table})
    with pytest.raises(
        command.UserError, match="tfds:glue/rte test idx 7 has the label 'entailment', but a test split"
    ):
        load("rte", "tfds:glue/rte")
    monkeypatch.setattr(tfds, "tables", lambda name, features: {"validation": table | {"label": [None]}})
    with pytest.raises(command.UserError, match="validation idx 7 has the label None, which is not one of entailment"):
        load("rte", "tfds:glue/rte")


def test_scores_are_those_of_the_labels(tmp_path):
    write(tmp_path, OFFICIAL["qnli"] | OFFICIAL["stsb"])
    task = load("qnli", tmp_path)
    outputs = np.array([[2, 1], [1, 0]], np.float32)
    assert task.score("validation", outputs) == {"accuracy": 0.5}
    drawn = task.bootstrap("validation", np.stack([outputs, -outputs]))["accuracy"]
    assert set(drawn[:, 0]) == {0, 0.5, 1}
    np.testing.assert_array_equal(drawn.sum(1), 1)
    task = load("stsb", tmp_path)
    assert task.score("train", np.array([[9], [1]], np.float32)) == pytest.approx({"pearson": 1, "spearman": 1})


@pytest.mark.parametrize(
    ("name", "split", "file", "outputs", "words"),
    [
        ("rte", "test", "RTE.tsv", [[0, 1]], ["not_entailment"]),
        ("cola", "test", "CoLA.tsv", [[0, 1], [1, 0]], ["1", "0"]),
        ("wnli", "test", "WNLI.tsv", [[0, 1]], ["1"]),
        ("stsb", "test", "STS-B.tsv", [[5.2]], ["5.000"]),
        ("stsb", "test", "STS-B.tsv", [[-0.1]], ["0.000"]),
        ("stsb", "test", "STS-B.tsv", [[2.34567]], ["2.346"]),
        ("mnli", "test_mismatched", "MNLI-mm.tsv", [[0, 0, 1]], ["contradiction"]),
        ("mnli", "ax_test", "AX.tsv", [[1, 0, 0], [0, 1, 0]], ["entailment", "neutral"]),
        ("rte", "validation", "rte-validation.tsv", [[1, 0]], ["entailment"]),
    ],
)
def test_predictions_are_in_the_server_s_form(tmp_path, name, split, file, outputs, words):
    task = load(name, write(tmp_path, OFFICIAL[name]))
    task.write(split, np.array(outputs, np.float32), tmp_path / "out" / "deep")
    rows = "".join(f"{i}\t{word}\n" for i, word in enumerate(words))
    assert (tmp_path / "out" / "deep" / file).read_bytes().decode() == f"index\tprediction\n{rows}"


def test_a_submission_has_all_files_or_does_not_exist(tmp_path):
    archive = tmp_path / "submission.zip"
    sent = {file for task in glue_specs.TASKS.values() for file in task.submission.values()}
    assert sent == set(glue_submission.ROWS)
    for name, rows in glue_submission.ROWS.items():
        if name not in ("AX.tsv", "RTE.tsv"):
            glue_submission.write(tmp_path / name, ["0"] * rows)
    with pytest.raises(command.UserError, match=r"lacks AX\.tsv, RTE\.tsv"):
        glue_submission.pack(tmp_path, archive)
    glue_submission.write(tmp_path / "AX.tsv", ["neutral"] * 1104)
    for wrong in (["entailment"] * 2999, ["entailment"] * 3001):
        glue_submission.write(tmp_path / "RTE.tsv", wrong)
        with pytest.raises(command.UserError, match=r"RTE\.tsv has \d+ rows, .* 0 to 2999"):
            glue_submission.pack(tmp_path, archive)
    assert not archive.exists()
    glue_submission.write(tmp_path / "RTE.tsv", ["entailment"] * 3000)
    (tmp_path / "rte-validation.tsv").write_text("not sent")
    glue_submission.pack(tmp_path, archive)
    with zipfile.ZipFile(archive) as file:
        assert set(file.namelist()) == sent
        assert file.read("AX.tsv").splitlines()[:2] == [b"index\tprediction", b"0\tneutral"]


HEAD = "index\tsentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("name", "files", "complaint"),
    [
        ("rtee", {}, "no task 'rtee' in GLUE; take one of cola, sst2"),
        ("rte", {"x": ""}, "nor RTE in it has any of train.tsv, dev.tsv, validation.tsv, test.tsv; fix the path"),
        ("rte", {"RTE/train.parquet": "", "x": ""}, "or learn from train.parquet with --config pairs"),
        ("rte", {"RTE/train.tsv": f"{HEAD}0\ta\tb\t1\n"}, "not_entailment .0 is entailment, 1 is not_entailment in"),
        ("rte", {"RTE/train.tsv": f"{HEAD}0\ta\tb\tneutral\n"}, r"RTE/train.tsv line 2 has the label 'neutral'"),
        ("rte", {"RTE/dev.tsv": f"{HEAD}0\ta\tb\tentailment\n1\ta\n"}, "dev.tsv line 3 does not have the 4 columns"),
        ("rte", {"RTE/dev.tsv": f"{HEAD}0\ta\tb\tc\tentailment\n"}, "dev.tsv line 2 does not have the 4 columns"),
        (
            "rte",
            {"RTE/dev.tsv": "index\tsentence1\tlabel\n0\ta\tentailment\n"},
            "dev.tsv has no column 'sentence2' but",
        ),
        ("rte", {"RTE/dev.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n"}, "dev.tsv has no column 'label'"),
        ("rte", {"RTE/dev.tsv": ""}, "dev.tsv is empty"),
        ("rte", {"RTE/test.tsv": "index\tsentence1\tsentence2\n"}, "test.tsv has no rows"),
        ("rte", {"RTE/test.tsv": f"{HEAD}0\ta\tb\tentailment\n"}, "test.tsv has a column 'label', but a test split"),
        ("rte", {"RTE/dev.tsv": f"{HEAD}0\ta\t".encode() + b"\xff\tentailment\n"}, "dev.tsv line 2 is not UTF-8"),
        (
            "qqp",
            {"QQP/test.tsv": "id\tquestion1\tquestion2\n0\ta\n1\ta\tb\n"},
            "QQP/test.tsv line 2 does not have the 3",
        ),
        (
            "stsb",
            {"STS-B/dev.tsv": "sentence1\tsentence2\tscore\na\tb\t5.1\n"},
            "line 2 has the label '5.1', which is not a number from 0 to 5",
        ),
        ("stsb", {"STS-B/dev.tsv": "sentence1\tsentence2\tscore\na\tb\tnan\n"}, "line 2 has the label 'nan'"),
        ("cola", {"CoLA/dev.tsv": "sentence\tlabel\na\t1\n"}, "line 1 does not have the 4 columns source, label, mark"),
        ("cola", {"CoLA/dev.tsv": "source\tlabel\tmark\tsentence\n"}, "line 1 has the names of the columns again"),
        ("rte", {"RTE/train.tsv.gz": "", "x": ""}, "fix the path, or decompress train.tsv.gz"),
        ("sst2", {"SST-2/dev.tsv": "sentence\tlabel\na\t1\n"}, "max_length 4 has no room"),
    ],
)  # fmt: skip
def test_bad_data_is_named_with_its_line(tmp_path, name, files, complaint):
    with pytest.raises(command.UserError, match=complaint):
        load(name, write(tmp_path, files), max_length=4 if name == "sst2" else 32)


def test_folders_may_have_the_names_of_the_tasks(tmp_path):
    row = "a\tb\tneutral\n"
    files = {
        "mnli/train.tsv": f"sentence1\tsentence2\tgold_label\n{row}",
        "ax/diagnostic-full.tsv": f"Premise\tHypothesis\tLabel\n{row}",
    }
    assert set(load("mnli", write(tmp_path, files)).splits) == {"train", "ax_answers"}


@pytest.mark.parametrize("mark", ["-1", "", "-1.0", "NaN"])
def test_a_test_split_whose_labels_are_all_missing_has_none(tmp_path, mark):
    task = load("rte", write(tmp_path, {"RTE/test.tsv": f"{HEAD}0\ta\tb\t{mark}\n1\tc\td\t{mark}\n"}))
    assert task.splits["test"].labels.tolist() == [-1, -1]
    assert task.eval_splits == ()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(strategies.binary(), strategies.sampled_from([b"", HEAD.encode(), b"sentence\tlabel\n", "é\t\ufeff".encode()]))
def test_any_bytes_are_rows_or_a_complaint(tmp_path, raw, start):
    write(tmp_path, {"RTE/train.tsv": start + raw, "SST-2/test.tsv": start + raw, "CoLA/dev.tsv": start + raw})
    for name in ("rte", "sst2", "cola"):
        try:
            task = load(name, tmp_path)
        except command.UserError:
            continue
        (rows,) = task.splits.values()
        assert len(rows.labels) == len(rows.lengths) > 0
