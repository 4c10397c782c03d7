"""Samples of a run: texts are whole words around masks, and guesses are those of the model on the whole row."""

from helpers import small_bert, tiny_runs
import jax
import numpy as np
import optax
import pytest

from bert_tpu.data import batch_spec
from bert_tpu.distributed import mesh
from bert_tpu.model import param_layout, transformer
from bert_tpu.pretrain import pretraining, samples
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, train_step

SPECIAL = vocab.ids(small_bert.VOCAB)
ID = {piece: i for i, piece in enumerate(small_bert.PIECES)}


def batch(*rows, masks=6):
    """A batch of rows such as "[CLS] the (cat) sat= [SEP]": (cat) is masked, sat= is predicted and stays as it is."""
    length = max(len(row.split()) for row in rows)
    arrays = {name: np.zeros((len(rows), length), np.int32) for name in samples.INPUTS[:3]}
    arrays |= {name: np.zeros((len(rows), masks), np.int32) for name in ("masked_positions", "masked_ids")}
    for number, row in enumerate(rows):
        slot = 0
        for place, word in enumerate(row.split()):
            piece = word.strip("()=")
            hidden = word.startswith("(")
            arrays["input_ids"][number, place] = SPECIAL.mask if hidden else ID[piece]
            arrays["attention_mask"][number, place] = 1
            if hidden or word.endswith("="):
                arrays["masked_positions"][number, slot], arrays["masked_ids"][number, slot] = place, ID[piece]
                slot += 1
    return arrays


def chosen(*rows, fill=1):
    return samples.choose_rows(batch(*rows), small_bert.PIECES, SPECIAL, fill)


def test_a_text_is_of_one_segment_and_each_of_its_masks_has_a_guess():
    choice = chosen("[CLS] the cat [SEP] a big (dog) sat ##er on (##ing) he ! [SEP]")
    assert choice.texts == ["a big [MASK] sater on [MASK] he !"]
    assert choice.truths == [["dog", "##ing"]]
    assert choice.batch["masked_positions"].tolist() == [[6, 10, 0]]


def test_a_fourth_mask_ends_the_text_and_a_predicted_piece_is_text():
    choice = chosen("[CLS] (the) (cat) (sat) on the big= blue (mat) he was [SEP]")
    assert choice.texts == ["... [MASK] [MASK] on the big blue [MASK] he was"]
    assert choice.truths == [["cat", "sat", "mat"]]


def test_a_window_contains_its_mask_and_begins_and_ends_with_a_word():
    for place in range(40):
        words = [["the", "big", "##er", "##ing"][i % 4] for i in range(40)]
        words[place] = f"({words[place]})"
        choice = chosen(" ".join(["[CLS]", *words, "[SEP]"]))
        words[place] = "[MASK]"
        whole = " ".join(words).replace(" ##", "")
        [text] = choice.texts
        bare = text.removeprefix("... ").removesuffix(" ...")
        assert bare.count("[MASK]") == 1
        assert f" {bare} " in f" {whole} "
        assert text.startswith("... ") != whole.startswith(bare)
        assert text.endswith(" ...") != whole.endswith(bare)
        assert samples.WINDOW - 6 <= len(words) * len(bare) / len(whole) <= samples.WINDOW + 4


def test_words_are_preferred_to_full_stops():
    choice = chosen("[CLS] the (.) sat on the big blue (mat) he was [SEP]")
    assert choice.texts == ["... sat on the big blue [MASK] he was"]
    assert choice.truths == [["mat"]]


def test_rows_are_the_longest_in_order_and_fill_the_batch():
    rows = ["[CLS] (the) [SEP]", *["[CLS] the (cat) sat on [SEP]"] * 3, *["[CLS] a big (dog) ran [SEP]"] * 3]
    choice = chosen(*rows, fill=8)
    assert [text.split()[0] for text in choice.texts] == ["the"] * 3 + ["a"] * 3
    np.testing.assert_array_equal(choice.batch["input_ids"][:6], batch(*rows)["input_ids"][1:])
    np.testing.assert_array_equal(choice.batch["input_ids"][6:], batch(*rows)["input_ids"][1:3])
    without = chosen("[CLS] the cat= [SEP]", fill=2)
    assert (without.texts, without.batch["masked_positions"].tolist()) == ([], [[0] * 3] * 2)


BERT = transformer.Bert(**small_bert.SECTION)


def predicted(choice, params):
    """The guesses of a run with these parameters, on eight devices, for the chosen rows."""
    devices = mesh.make(jax.devices())
    job = jobs.Job(
        init=lambda key: param_layout.pack(transformer.init(BERT, key)), loss=None, counts=None, rule=optax.sgd(1.0),
        learning_rate=None, shapes={}, flops={}, seed=0, accumulate={}, dtype="float32",
    )  # fmt: skip
    program = samples.compile_program(job, BERT, {name: rows.shape for name, rows in choice.batch.items()}, devices)
    placed = jax.device_put(param_layout.pack(params), train_step.shardings(job, devices).params)
    return samples.predict(program, devices, placed, choice, small_bert.PIECES)


def assert_likeliest(guesses, params, ids, places):
    """Checks that the guesses are the likeliest pieces at `places` of a row that consists of `ids`."""
    ids_BL, places_BM = np.array([ids]), np.array([places])
    logits = BERT.apply({"params": params}, ids_BL, np.zeros_like(ids_BL), np.ones_like(ids_BL), places_BM)
    for p_V, place in zip(np.asarray(jax.nn.softmax(logits.mlm_BMV))[0], guesses["places"], strict=True):
        best = np.argsort(-p_V)[: samples.TOP]
        assert [piece for piece, _ in place["top"]] == [small_bert.PIECES[i] for i in best]
        np.testing.assert_allclose([p for _, p in place["top"]], p_V[best], rtol=1e-3)


def test_the_guesses_are_those_of_the_model_on_the_whole_row():
    rows = ["[CLS] the (cat) sat on the mat . [SEP] it was (very) small [SEP]", "[CLS] a big (red) dog ran [SEP]"]
    choice, params = chosen(*rows, fill=8), small_bert.params()
    guesses = predicted(choice, params)
    assert [[place["truth"] for place in row["places"]] for row in guesses] == choice.truths == [["cat"], ["red"]]
    for row, of_row in enumerate(guesses):
        length = choice.batch["attention_mask"][row].sum()
        places = choice.batch["masked_positions"][row, :1]
        assert_likeliest(of_row, params, choice.batch["input_ids"][row, :length], places)


def test_examples_that_share_a_row_do_not_see_each_other():
    packed, params = batch("[CLS] it was [SEP] [CLS] a big (red) dog ran [SEP]"), small_bert.params()
    packed["attention_mask"][0, 4:] = 2
    packed["example_starts"] = np.array([[0, 4]], np.int32)
    choice = samples.choose_rows(packed, small_bert.PIECES, SPECIAL, 8)
    [guesses] = predicted(choice, params)
    assert guesses["text"] == "a big [MASK] dog ran"
    assert_likeliest(guesses, params, packed["input_ids"][0, 4:], [3])


@pytest.mark.parametrize(("devices", "hosts", "rows"), [(1, 1, 6), (8, 1, 8), (16, 4, 32), (4, 4, 24)])
def test_each_host_has_enough_rows_and_each_device_equally_many(devices, hosts, rows):
    spec = batch_spec.check(pretraining.make_batch_spec(tiny_runs.configured(tiny_runs.KEYS)))
    shapes = samples.shapes(spec, devices, hosts)
    assert shapes["masked_positions"] == (rows, 3)
    assert shapes["input_ids"] == (rows, 16)
    assert rows % devices == 0
    assert rows // hosts >= samples.ROWS


def test_rows_of_a_packed_length_have_example_starts():
    keys = tiny_runs.KEYS | {"data.seq_lens": (32,), "data.max_predictions": (5,), "data.packed_rows": 8}
    shapes = samples.shapes(pretraining.make_batch_spec(tiny_runs.configured(keys)), 8, 1)
    assert shapes["example_starts"][0] == 8
