"""Understands every key of a BERT's config.json: each is read, known to be harmless, or refused by name."""

from collections.abc import Callable
import json
import math
from typing import Any

from etils import epath

from bert_tpu.core import command, downloads
from bert_tpu.model import activation, sizes, transformer
from bert_tpu.tokenizer import settings

CONFIG = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
}
# How to compute the model, which config.json does not say.
HERE = {"dtype": "float32", "remat": False}
# As transformers has them. Google's files lack the epsilon; shapes that are not as these say are refused later.
DEFAULTS: dict[str, Any] = {
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
# Properties of every BERT of this package. An old config.json that lacks one means the same.
FIXED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
# More of them, which an export does not write.
ALSO_FIXED: dict[str, Any] = FIXED | {
    "is_encoder_decoder": False,
    "tie_encoder_decoder": False,
    "directionality": "bidi",
    "pooler_type": "first_token_transform",
}
# Keys without influence on what the encoder and its pretraining heads compute, by what they are about.
ABOUT = {
    "the file": (
        "architectures transformers_version _name_or_path name_or_path torch_dtype dtype finetuning_task language name "
        "sentence_transformers license pre_trained training transformers.js_config vocab_file model_max_length "
        "xla_device"
    ),
    "training": (
        "hidden_dropout attention_dropout initializer_range initializer_factor gradient_checkpointing "
        "classifier_dropout"
    ),
    "heads, which are recognized by their tensors": (
        "add_pooling_layer id2label label2id num_labels problem_type tf_legacy_loss pooler_fc_size "
        "pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head _num_labels summary_type "
        "summary_use_proj summary_activation summary_last_dropout summary_first_dropout summary_proj_to_labels"
    ),
    "what transformers returns and how it computes it": (
        "output_attentions output_hidden_states output_past output_scores return_dict return_dict_in_generate "
        "torchscript use_bfloat16 use_cache chunk_size_feed_forward attn_implementation _attn_implementation "
        "_attn_implementation_autoset _attn_implementation_internal"
    ),
    "special pieces, which are looked up by name in the vocabulary": (
        "bos_token_id eos_token_id eos_token_ids pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id "
        "decoder_start_token_id tokenizer_class"
    ),
    "text generation": (
        "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k "
        "top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size "
        "bad_words_ids num_return_sequences forced_bos_token_id forced_eos_token_id remove_invalid_values "
        "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens prefix task_specific_params"
    ),
}
HARMLESS = frozenset(" ".join(ABOUT.values()).split())
KINDS = {  # model_type -> what it is
    "roberta": "a RoBERTa", "xlm-roberta": "an XLM-RoBERTa", "camembert": "a CamemBERT", "distilbert": "a DistilBERT",
    "electra": "an ELECTRA", "albert": "an ALBERT", "deberta": "a DeBERTa", "deberta-v2": "a DeBERTa V2",
    "modernbert": "a ModernBERT", "nomic_bert": "a Nomic BERT", "mpnet": "an MPNet", "convbert": "a ConvBERT",
    "mobilebert": "a MobileBERT", "squeezebert": "a SqueezeBERT", "megatron-bert": "a Megatron-BERT (pre-norm)",
    "bert-generation": "a BERT for generation", "ernie": "an ERNIE", "roformer": "a RoFormer",
    "rembert": "a RemBERT", "encoder-decoder": "an encoder with a decoder",
}  # fmt: skip
# The same functions under other names of transformers.
SAME_ACTIVATION = {"gelu_python": "gelu", "gelu_pytorch_tanh": "gelu_new"}


def read(path: epath.Path) -> dict[str, Any]:
    """Returns the `model` section that means the same as the config.json (or bert_config.json) `path`.

    Its `vocab_size` is the number of rows of the word table. Raises UserError, with the file's and the key's name,
    for anything else than a BERT's config.
    """
    theirs = _read_object(path)
    if isinstance(theirs.get("model"), dict):
        raise command.UserError(f"{path.parent} is the workdir of a run: export a model with bert-tpu export")
    kind = theirs.get("model_type", "bert")
    if kind != "bert":
        named = KINDS.get(kind, "another kind of model") if isinstance(kind, str) else "another kind of model"
        raise command.UserError(
            f"{path} describes {named} (model_type {kind!r}), whose weights mean something else: give a BERT"
        )
    for key, value in ALSO_FIXED.items():
        if (given := theirs.get(key, value)) != value or type(given) is not type(value):
            raise command.UserError(f"{path} has {key} {given!r}: only {value!r} can be loaded")
    theirs = DEFAULTS | theirs
    for ours, key in CONFIG.items():
        if not _VALID[ours](theirs.get(key)):
            raise command.UserError(f"{path} lacks {key}, or its value is not valid: {theirs.get(key)!r}; correct it")
    _check_others(path, theirs)
    section = {key: theirs[name] for key, name in CONFIG.items()} | HERE
    section["activation"] = SAME_ACTIVATION.get(section["activation"], section["activation"])
    if section["activation"] not in activation.FORMS:
        raise command.UserError(
            f"{path} has hidden_act {section['activation']!r}: only {' and '.join(activation.FORMS)} are computed "
            "here; give a BERT with one of them"
        )
    try:
        sizes.check(transformer.Bert(**section), seq_len=1)
    except command.UserError as error:
        raise command.UserError(f"{path}: {error}") from None
    return section


def is_hugging_faces(path: epath.Path) -> bool:
    """Returns whether `path` is a config.json of transformers rather than a run's."""
    if not path.exists():
        return False
    try:
        content = _read_object(path)
    except command.UserError:
        return False
    return "model_type" in content or "hidden_size" in content


def _read_object(path: epath.Path) -> dict[str, Any]:
    if not path.exists():
        raise command.UserError(f"{path} does not exist: give a directory that save_pretrained wrote")
    downloads.check(path)
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise command.UserError(f"{path} is not a JSON object: fetch or export it again")
    return content


def _check_others(path: epath.Path, theirs: dict[str, Any]) -> None:
    """Raises UserError for a key that changes the model, or may."""
    heads, width = theirs["num_attention_heads"], theirs["hidden_size"]
    per_head = width / heads
    expected = {"embedding_size": width, "emb_size": width, "head_dim": per_head, "attention_head_size": per_head}
    unknown = []
    for key, value in theirs.items():
        if key in HARMLESS or key in CONFIG.values() or key in ALSO_FIXED or value in (None, "", [], {}):
            continue
        if key in expected:
            if value != expected[key]:
                raise command.UserError(
                    f"{path} has {key} {value!r}: only {expected[key]:g}, as hidden_size and num_attention_heads give "
                    "it, can be loaded"
                )
        elif key == "auto_map":
            raise command.UserError(
                f"{path} has auto_map: the model is computed by code of its own, not as a BERT; give a BERT"
            )
        elif key == "quantization_config":
            raise command.UserError(
                f"{path} has quantization_config: the weights are quantized; give the model in float32 or bfloat16"
            )
        elif key in settings.SWITCHES:
            raise command.UserError(
                f"{path} has {key} {_short(value)}, which is read from tokenizer_config.json alone: move it there"
            )
        else:
            unknown.append(f"{key} {_short(value)}")
    if unknown:
        raise command.UserError(
            f"{path} has unknown keys, {', '.join(unknown)}: take them out if they do not change what the "
            "model computes"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


_VALID: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(CONFIG, _is_count),
    "activation": lambda value: isinstance(value, str),
    "dropout": _is_rate,
    "attention_dropout": _is_rate,
    "layer_norm_eps": _is_positive,
}
