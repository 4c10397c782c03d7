"""Tokenizers and models from elsewhere, with random switches and odd values, whose results are compared."""

import json
import pathlib
import shutil
import tempfile

from helpers import foreign_tokenizers, small_bert
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command
from bert_tpu.huggingface import hf
from bert_tpu.model import transformer
from fuzz.target import Target

TOLERANCE = 1e-3  # of a logit
KEYS = (
    "hidden_act", "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size",
    "type_vocab_size",
    "max_position_embeddings", "layer_norm_eps", "model_type", "architectures", "tie_word_embeddings", "is_decoder",
    "add_cross_attention", "position_embedding_type", "chunk_size_feed_forward", "pad_token_id",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob", "initializer_range", "torch_dtype", "dtype", "use_cache", "classifier_dropout",
    "pruned_heads",
    "quantization_config", "embedding_size", "head_dim", "auto_map", "num_labels", "id2label", "problem_type", "new",
)  # fmt: skip
VALUES = (
    None, True, False, 0, 1, 2, 3, 4, -1, 0.1, 1e-12, 1e-5, 0.5, 64, 96, 32, 48, "gelu", "gelu_new", "relu", "bert",
    "roberta",
    "absolute", "relative_key", "float16", "", [], {}, ["BertModel"], ["BertForMaskedLM"], {"0": [1]}, {"0": "A"},
    float("nan"),
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=2)


def _check_tokenizer(drawn):
    """A tokenizer that is accepted gives the ids of transformers, and so does what is saved of it."""
    with tempfile.TemporaryDirectory() as folder:
        foreign_tokenizers.write(pathlib.Path(folder) / "a", drawn.files)
        foreign_tokenizers.assert_same_ids(pathlib.Path(folder) / "a", drawn.added)


def _check_model(changes):
    """A model that is accepted computes the logits of transformers."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model"
        shutil.copytree(small_bert.saved_once(), model)
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(changes)))
        ours = hf.load(model)
        batch = small_bert.batch()
        names = ("input_ids", "token_type_ids", "attention_mask")
        section = ours.model | {"dtype": "float32"}
        everywhere = jnp.broadcast_to(jnp.arange(batch["input_ids"].shape[1]), batch["input_ids"].shape)
        inputs = [batch["input_ids"], batch["token_type_ids"] % section["type_vocab_size"], batch["attention_mask"]]
        logits = transformer.Bert(**section).apply({"params": hf.complete(ours)}, *inputs, everywhere).mlm_BMV
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        try:
            # Ours computes in float32, and the config may name another type.
            theirs = transformers.BertForPreTraining.from_pretrained(
                model, ignore_mismatched_sizes=True, dtype=torch.float32
            ).eval()
            with torch.no_grad():
                named = {name: torch.from_numpy(array).long() for name, array in zip(names, inputs, strict=True)}
                expected = theirs(**named).prediction_logits.numpy()
        except Exception as error:
            raise command.UserError(f"transformers fails with it: {error}") from None
        is_token = batch["attention_mask"].astype(bool)
        difference = np.abs(np.asarray(logits)[is_token] - expected[is_token][:, : logits.shape[-1]]).max()
        assert difference < TOLERANCE, difference


def targets():
    """The targets of this file."""
    tokenizers = foreign_tokenizers.drawn() | foreign_tokenizers.damaged()
    return [
        Target("tokenizers", tokenizers, _check_tokenizer, 0.5),
        Target("logits of a model", CHANGES, _check_model, 0.3),
    ]
