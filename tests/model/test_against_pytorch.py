"""The loss and every gradient equal PyTorch's, and so do the hidden states of a published model."""

import functools

from helpers import minilm, small_bert, torch_gradients
import jax
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.huggingface import hf, tensor_names
from bert_tpu.model import param_layout, transformer
from bert_tpu.pretrain import mlm_nsp

PADDED = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "cls.predictions.decoder.bias")


@pytest.mark.parametrize(
    "changes", [{"activation": "gelu"}, {"activation": "gelu_new", "layer_norm_eps": 0.1}], ids=["gelu", "gelu_new"]
)
def test_loss_and_every_gradient_are_pytorchs(tmp_path, changes):
    section = small_bert.SECTION | changes
    bert, batch = transformer.Bert(**section), small_bert.batch()

    def total(params):
        sums, counts = mlm_nsp.loss(bert, params, batch, None), mlm_nsp.counts(batch)
        return sum(sums[name][0] / counts[name] for name in counts)

    loss, gradients = jax.jit(jax.value_and_grad(total))(param_layout.pack(small_bert.params(section)))
    torch_loss, theirs = torch_gradients.of_batch(small_bert.save(tmp_path, section), batch)
    # The MLM's sum is divided by its 13 predictions plus 1e-5: a relative 8e-7.
    np.testing.assert_allclose(loss, torch_loss, rtol=3e-6)
    gradients = tensor_names.to_hf(param_layout.split_layers(gradients))
    padding = {name: gradients[name][section["vocab_size"] :] for name in PADDED}
    assert not any(rows.any() for rows in padding.values())
    gradients |= {name: gradients[name][: section["vocab_size"]] for name in PADDED}
    largest = max(np.abs(gradient).max() for gradient in theirs.values())
    for name, gradient in theirs.items():
        # A key's bias has no gradient but rounding (softmax does not see it), hence the second term.
        tolerance = 1e-5 * np.abs(gradient).max() + 1e-7 * largest
        np.testing.assert_allclose(gradients[name], gradient, rtol=0, atol=tolerance, err_msg=name)
    assert gradients.keys() - theirs.keys() == {"cls.predictions.decoder.bias"}  # tied


def test_hidden_states_of_real_weights_are_pytorchs():
    directory = minilm.folder()
    loaded = hf.load(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    texts = ["Pythagoras was a Greek philosopher.", "It rained in Lisbon, and all the trams stood still."]
    rows = dict(tokenizer(texts, padding="longest", return_tensors="np"))
    rows["token_type_ids"][1, 8:] = 1
    inputs = [rows[name] for name in ("input_ids", "token_type_ids", "attention_mask")]
    encode = jax.jit(functools.partial(transformer.Bert(**loaded.model).apply, method="encode"))
    encoded = encode({"params": loaded.params}, *inputs)
    bert = transformers.BertModel.from_pretrained(directory).eval()
    with torch.no_grad():
        theirs = bert(**{name: torch.from_numpy(array) for name, array in rows.items()})
    real = rows["attention_mask"].astype(bool)
    hidden = theirs.last_hidden_state.numpy()
    np.testing.assert_allclose(np.asarray(encoded.tokens_BLD)[real], hidden[real], rtol=0, atol=1e-4)
    np.testing.assert_allclose(encoded.pooled_BD, theirs.pooler_output.numpy(), rtol=0, atol=1e-4)
