"""What a run shows of itself: a few held-out rows, told apart by nothing but the step."""

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
    """Rows such as "[CLS] the (cat) sat= [SEP]": a piece in parentheses is masked, one before = predicted as it is."""
    length = max(len(row.split()) for row in rows)
    made = {name: np.zeros((len(rows), length), np.int32) for name in samples.INPUTS[:3]}
    made |= {name: np.zeros((len(rows), masks), np.int32) for name in ("masked_positions", "masked_ids")}
    for number, row in enumerate(rows):
        slot = 0
        for place, word in enumerate(row.split()):
            piece = word.strip("()=")
            hidden = word.startswith("(")
            made["input_ids"][number, place] = SPECIAL.mask if hidden else ID[piece]
            made["attention_mask"][number, place] = 1
            if hidden or word.endswith("="):
                made["masked_positions"][number, slot], made["masked_ids"][number, slot] = place, ID[piece]
                slot += 1
    return made


def chosen(*rows, fill=1):
    return samples.choose_rows(batch(*rows), small_bert.PIECES, SPECIAL, fill)


def test_a_text_is_words_of_one_segment_and_tells_of_each_of_its_masks():
    found = chosen("[CLS] the cat [SEP] a big (dog) sat ##er on (##ing) he ! [SEP]")
    assert found.texts == ["a big [MASK] sater on [MASK] he !"]
    assert found.truths == [["dog", "##ing"]]
    assert found.batch["masked_positions"].tolist() == [[6, 10, 0]]


def test_a_mask_too_many_ends_the_text_and_one_that_hides_nothing_is_text():
    found = chosen("[CLS] (the) (cat) (sat) on the big= blue (mat) he was [SEP]")
    assert found.texts == ["... [MASK] [MASK] on the big blue [MASK] he was"]
    assert found.truths == [["cat", "sat", "mat"]]


def test_a_window_holds_its_mask_and_begins_and_ends_with_a_word():
    for place in range(40):
        words = [["the", "big", "##er", "##ing"][i % 4] for i in range(40)]
        words[place] = f"({words[place]})"
        found = chosen(" ".join(["[CLS]", *words, "[SEP]"]))
        words[place] = "[MASK]"
        whole = " ".join(words).replace(" ##", "")
        [text] = found.texts
        shown = text.removeprefix("... ").removesuffix(" ...")
        assert shown.count("[MASK]") == 1
        assert f" {shown} " in f" {whole} "
        assert text.startswith("... ") != whole.startswith(shown)
        assert text.endswith(" ...") != whole.endswith(shown)
        assert samples.WINDOW - 6 <= len(words) * len(shown) / len(whole) <= samples.WINDOW + 4


def test_words_are_shown_rather_than_dots():
    found = chosen("[CLS] the (.) sat on the big blue (mat) he was [SEP]")
    assert found.texts == ["... sat on the big blue [MASK] he was"]
    assert found.truths == [["mat"]]


def test_rows_are_the_longest_in_their_order_and_fill_what_is_asked():
    rows = ["[CLS] (the) [SEP]", *["[CLS] the (cat) sat on [SEP]"] * 3, *["[CLS] a big (dog) ran [SEP]"] * 3]
    found = chosen(*rows, fill=8)
    assert [text.split()[0] for text in found.texts] == ["the"] * 3 + ["a"] * 3
    np.testing.assert_array_equal(found.batch["input_ids"][:6], batch(*rows)["input_ids"][1:])
    np.testing.assert_array_equal(found.batch["input_ids"][6:], batch(*rows)["input_ids"][1:3])
    without = chosen("[CLS] the cat= [SEP]", fill=2)
    assert (without.texts, without.batch["masked_positions"].tolist()) == ([], [[0] * 3] * 2)


BERT = transformer.Bert(**small_bert.SECTION)


def taken(found, params):
    """What a run with these parameters, on eight devices, says of what was chosen."""
    on = mesh.make(jax.devices())
    job = jobs.Job(
        init=lambda key: param_layout.pack(transformer.init(BERT, key)), loss=None, counts=None, tx=optax.sgd(1.0),
        learning_rate=None, shapes={}, flops={}, seed=0, accumulate=1, dtype="float32",
    )  # fmt: skip
    program = samples.compile_program(job, BERT, {name: rows.shape for name, rows in found.batch.items()}, on)
    placed = jax.device_put(param_layout.pack(params), train_step.shardings(job, on).params)
    return samples.predict(program, on, placed, found, small_bert.PIECES)


def assert_likeliest(told, params, ids, places):
    """The guesses are the likeliest pieces at `places` of a row that has nothing but `ids`."""
    ids_BL, places_BM = np.array([ids]), np.array([places])
    logits = BERT.apply({"params": params}, ids_BL, np.zeros_like(ids_BL), np.ones_like(ids_BL), places_BM)
    for p_V, place in zip(np.asarray(jax.nn.softmax(logits.mlm_BMV))[0], told["places"], strict=True):
        best = np.argsort(-p_V)[: samples.TOP]
        assert [piece for piece, _ in place["top"]] == [small_bert.PIECES[i] for i in best]
        np.testing.assert_allclose([p for _, p in place["top"]], p_V[best], rtol=1e-3)


def test_the_guesses_are_those_of_the_model_on_the_whole_row():
    rows = ["[CLS] the (cat) sat on the mat . [SEP] it was (very) small [SEP]", "[CLS] a big (red) dog ran [SEP]"]
    found, params = chosen(*rows, fill=8), small_bert.params()
    told = taken(found, params)
    assert [[place["truth"] for place in of["places"]] for of in told] == found.truths == [["cat"], ["red"]]
    for row, of_row in enumerate(told):
        length = found.batch["attention_mask"][row].sum()
        places = found.batch["masked_positions"][row, :1]
        assert_likeliest(of_row, params, found.batch["input_ids"][row, :length], places)


def test_examples_that_share_a_row_do_not_see_each_other():
    packed, params = batch("[CLS] it was [SEP] [CLS] a big (red) dog ran [SEP]"), small_bert.params()
    packed["attention_mask"][0, 4:] = 2
    packed["example_starts"] = np.array([[0, 4]], np.int32)
    found = samples.choose_rows(packed, small_bert.PIECES, SPECIAL, 8)
    [told] = taken(found, params)
    assert told["text"] == "a big [MASK] dog ran"
    assert_likeliest(told, params, packed["input_ids"][0, 4:], [3])


@pytest.mark.parametrize(("devices", "hosts", "rows"), [(1, 1, 6), (8, 1, 8), (16, 4, 32), (4, 4, 24)])
def test_each_host_has_its_rows_and_each_device_as_many(devices, hosts, rows):
    spec = batch_spec.check(pretraining.make_batch_spec(tiny_runs.configured(tiny_runs.KEYS)))
    found = samples.shapes(spec, devices, hosts)
    assert found["masked_positions"] == (rows, 3)
    assert found["input_ids"] == (rows, 16)
    assert rows % devices == 0
    assert rows // hosts >= samples.ROWS


def test_a_packed_length_s_rows_number_their_examples():
    keys = tiny_runs.KEYS | {"data.seq_lens": (32,), "data.max_predictions": (5,), "data.packed_rows": 8}
    found = samples.shapes(pretraining.make_batch_spec(tiny_runs.configured(keys)), 8, 1)
    assert found["example_starts"][0] == 8
