"""The keys of a tokenizer_config.json: which are understood, which change no id, and which are refused."""

from collections.abc import Mapping
from typing import Any

from bert_tpu.core import command

# Keys of releases 2 to 5 of transformers that say nothing about the ids of a text.
HARMLESS = {
    "name_or_path", "special_tokens_map_file", "tokenizer_file", "full_tokenizer_file", "vocab_file", "padding",
    "model_max_length", "max_len", "max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "padding_side",
    "pad_token_type_id", "model_input_names", "clean_up_tokenization_spaces", "processor_class", "chat_template",
    "verbose", "use_fast", "backend", "is_local", "local_files_only", "device_map", "transformers_version",
    "model_type", "_commit_hash", "_name_or_path", "task_specific_params", "max_seq_length", "return_token_type_ids",
    "cache_dir", "force_download", "resume_download", "proxies", "use_auth_token", "revision", "trust_remote_code",
}  # fmt: skip
# Keys that must say what BERT does: the values with which ids are those of BERT.
ONLY: dict[str, tuple[object, ...]] = {
    "do_basic_tokenize": (True, None),
    "do_word_tokenize": (True,),
    "do_subword_tokenize": (True,),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
    "wordpieces_prefix": ("##",),
    "split_special_tokens": (False,),
    "truncation_side": ("right",),
    "truncation": (False, None),
    "add_prefix_space": (False, None),
    "add_bos_token": (False, None),
    "add_eos_token": (False, None),
    "init_inputs": ([],),
}
SWITCHES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "clean_text")
TOKENS = ("extra_special_tokens", "additional_special_tokens", "added_tokens_decoder")
KNOWN = {*HARMLESS, *ONLY, *SWITCHES, *TOKENS, "tokenizer_class", "auto_map", "never_split"}
# Classes that transformers 5 serves with BertTokenizer: it takes rules from tokenizer_config.json, not tokenizer.json.
BERT_CLASSES = {
    "BertTokenizer", "ConvBertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "LayoutLMTokenizer",
    "LxmertTokenizer", "MobileBertTokenizer", "SqueezeBertTokenizer",
}  # fmt: skip
# Values of model_type in config.json for which transformers 5 takes BertTokenizer, if no file names a class.
BERT_MODELS = {
    "bert", "convbert", "distilbert", "electra", "ernie", "layoutlm", "lxmert", "megatron-bert", "mobilebert", "nezha",
    "qdqbert", "realm", "retribert", "squeezebert", "visual_bert",
}  # fmt: skip
JSON_CLASSES = {"PreTrainedTokenizer", "TokenizersBackend"}  # the rules are those of tokenizer.json


def check(config: Mapping[str, Any], path: Any) -> None:
    """Raises UserError for a key of a tokenizer_config.json that would change ids in a way that is not known here."""
    auto_map = config.get("auto_map")
    if auto_map and (not isinstance(auto_map, dict) or "AutoTokenizer" in auto_map):
        raise command.UserError(
            f"{path} names code of its own by auto_map; only WordPiece with BERT's rules is read, take another one"
        )
    for key, value in config.items():
        if key in ONLY and not any(value is only or value == only for only in ONLY[key]):
            raise command.UserError(
                f"{path} has {key}={value!r:.80}, and BERT's rules are others; remove the key if the model was "
                "trained by BERT's, or take another model"
            )
        if not (key in KNOWN or key.endswith("_token")):
            raise command.UserError(
                f"{path} has the unknown key {key}={value!r:.80}, which may change ids; remove it if it does not"
            )
    for key in ("model_max_length", "max_len"):
        if not isinstance(config.get(key), int | float | None):
            raise command.UserError(f"{path} has {key}={config[key]!r:.80}; write a number of tokens")
    for key in SWITCHES:
        allowed = (True, False, None) if key == "strip_accents" else (True, False)
        if key in config and not any(config[key] is value for value in allowed):
            raise command.UserError(f"{path} has {key}={config[key]!r:.80}; write true or false")


def tokenizer_class(config: Mapping[str, Any], others: Mapping[str, Any], model: Mapping[str, Any], path: Any) -> str:
    """The name of the class that transformers takes for a folder, without Fast; "" if no file decides.

    config: its tokenizer_config.json
    others: other files that only transformers writes next to a vocab.txt
    model: its config.json
    path: the folder

    Raises UserError for a class with rules other than BERT's.
    """
    named = next((file["tokenizer_class"] for file in (config, model) if file.get("tokenizer_class") is not None), None)
    if named is None:
        if (kind := model.get("model_type", "bert")) not in BERT_MODELS:
            raise command.UserError(
                f"{path} is a model of type {kind} and names no tokenizer class; set tokenizer_class in "
                "tokenizer_config.json to BertTokenizer if its text is split by BERT's rules"
            )
        return "BertTokenizer" if config or others or "model_type" in model or "hidden_size" in model else ""
    name = str(named).removesuffix("Fast")
    if name not in BERT_CLASSES | JSON_CLASSES:
        raise command.UserError(
            f"{path} has the tokenizer class {named}, and only WordPiece with BERT's rules is read; "
            "take another model, or set tokenizer_class to BertTokenizer if the class has BERT's rules"
        )
    return name
