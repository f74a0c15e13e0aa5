# SPDX-License-Identifier: Apache-2.0
"""Account for every key of a config: read by the family, ignored for a stated reason, or unread.

The table holds only keys that no forward pass depends on, some of them at certain values alone. Keys that matter to
some families (activations, biases, windows) are not here: a family that does not read them must not be used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from dsl.diagnostics import Diagnostic, did_you_mean
from porting.config.class_defaults import rules_of
from porting.config.class_rules import ClassRules, place, reads, transformers_version
from porting.config.reader import NAME, ModelConfig
from porting.files.strict_json import shown

Condition = Callable[[Mapping[str, object], Collection[str]], bool]

MAX_DIAGNOSTICS = 6
MISSPELT = 0.88
"""How alike an unread key and one that the file lacks must be for the one to be the other, misspelt."""
MAX_NEVER_READ = 2000
"""More keys than makers invent: each is compared with those that may have been meant."""
IDENTITY = frozenset({"architectures", "model_type"})
TRAINING = "used in training alone"
SAMPLING = "a setting for sampling text; the forward pass does not read it"
TOKENS = "names a token of the vocabulary; the forward pass does not read it"
OUTPUTS = "chooses what transformers returns, not what it computes"
LABELS = "labels of a classification head"
PRECISION = "in which order and precision transformers computes, not what"
RECORD = "says what the file was made from or by"
REMARK = "a remark for people"
NEVER_READ = "of no effect: no code of transformers' {} reads it ({})"
STORED = frozenset({"quantization_config", "compression_config"})
"""Sections on how weights are stored, which the forms account for."""
LENGTH_TYPES = frozenset({"default", "linear", "llama3", "proportional", "yarn"})


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why a key is of no consequence, and at which values or under which condition that is so."""

    reason: str
    values: tuple[object, ...] | None = None
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class KeyAccount:
    """What became of every key of a config, in our spelling, and the diagnostics for the unread ones."""

    used: tuple[str, ...]
    ignored: Mapping[str, str]
    unread: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...]


def _length_is_unused(values: Mapping[str, object], read: Collection[str]) -> bool:
    """Tell whether positions enter by rotations alone, of a type that does not depend on the longest length."""
    types = [
        value
        for key, value in values.items()
        if key.startswith("rope_parameters") and key.endswith("rope_type")
    ]
    rotates = types or any(key.startswith("rope_parameters.") for key in read)
    return bool(rotates) and all(isinstance(x, str) and x in LENGTH_TYPES for x in types)


def _has_no_window(values: Mapping[str, object], read: Collection[str]) -> bool:
    """Tell whether the config says that windows are off."""
    return values.get("use_sliding_window") is False


def _lists_rotation(values: Mapping[str, object], read: Collection[str]) -> bool:
    """Tell whether the config says for each layer whether it has rotary positions."""
    return isinstance(values.get("no_rope_layers"), list) and "no_rope_layers" in read


def _rows(
    reason: str, keys: str, values: tuple[object, ...] | None = None
) -> Iterator[tuple[str, Ignored]]:
    for key in keys.split():
        yield key, Ignored(reason, values)


IGNORED: dict[str, Ignored] = {
    **dict(
        _rows(TRAINING, "initializer_range initializer_factor gradient_checkpointing use_bfloat16")
    ),
    **dict(
        _rows(TRAINING, "attention_dropout hidden_dropout mlp_dropout embedding_dropout dropout")
    ),
    **dict(
        _rows(
            TRAINING, "attn_pdrop embd_pdrop resid_pdrop classifier_dropout summary_first_dropout"
        )
    ),
    **dict(_rows(TRAINING, "attention_probs_dropout_prob hidden_dropout_prob activation_dropout")),
    **dict(_rows(TRAINING, "layerdrop resid_dropout embd_dropout unsloth_fixed unsloth_version")),
    **dict(
        _rows(TRAINING, "embed_dropout emb_pdrop residual_dropout dropout_p init_std init_device")
    ),
    **dict(_rows(TRAINING, "embed_init_std initializer_cutoff_factor embedding_fraction")),
    **dict(
        _rows(
            TRAINING,
            "decoder_layerdrop encoder_layerdrop summary_last_dropout classifier_dropout_prob",
        )
    ),
    **dict(_rows(TRAINING, "apply_spec_augment mask_feature_length mask_feature_min_masks")),
    **dict(
        _rows(TRAINING, "mask_feature_prob mask_time_length mask_time_min_masks mask_time_prob")
    ),
    **dict(_rows(TRAINING, "router_aux_loss_coef router_jitter_noise aux_loss_alpha seq_aux")),
    **dict(_rows(TRAINING, "input_jitter_noise aux_loss_coef embedding_initializer_range")),
    **dict(_rows(TRAINING, "moe_jitter_eps moe_loss_weight lambda_std_dev")),
    **dict(_rows(TOKENS, "bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id")),
    **dict(_rows(TOKENS, "decoder_start_token_id forced_bos_token_id forced_eos_token_id")),
    **dict(_rows(TOKENS, "cls_token_id mask_token_id mask_index unk_index lang_id eod_token_id")),
    **dict(
        _rows(TOKENS, "suppress_tokens begin_suppress_tokens bad_words_ids tokenizer_class prefix")
    ),
    **dict(
        _rows(SAMPLING, "do_sample temperature top_k top_p typical_p min_p max_length min_length")
    ),
    **dict(_rows(SAMPLING, "max_new_tokens num_beams num_beam_groups num_return_sequences")),
    **dict(_rows(SAMPLING, "diversity_penalty repetition_penalty length_penalty early_stopping")),
    **dict(
        _rows(SAMPLING, "no_repeat_ngram_size encoder_no_repeat_ngram_size remove_invalid_values")
    ),
    **dict(_rows(SAMPLING, "exponential_decay_length_penalty task_specific_params.*")),
    **dict(_rows(OUTPUTS, "output_attentions output_hidden_states output_scores")),
    **dict(_rows(OUTPUTS, "output_router_logits")),
    **dict(_rows(OUTPUTS, "return_dict_in_generate use_cache torchscript num_logits_to_keep")),
    **dict(_rows(OUTPUTS, "return_dict", (True,))),
    **dict(_rows(LABELS, "id2label.* label2id.* num_labels problem_type finetuning_task")),
    **dict(
        _rows(LABELS, "summary_type summary_use_proj summary_activation summary_proj_to_labels")
    ),
    **dict(_rows(LABELS, "classifier_proj_size use_weighted_layer_sum median_filter_width")),
    **dict(_rows(LABELS, "start_n_top end_n_top")),
    **dict(_rows(PRECISION, "reorder_and_upcast_attn attention_softmax_in_fp32")),
    **dict(
        _rows(PRECISION, "scale_attention_softmax_in_fp32 slow_but_exact masked_softmax_fusion")
    ),
    **dict(_rows(PRECISION, "bias_dropout_fusion skip_bias_add skip_bias_add_qkv")),
    **dict(
        _rows(
            "of a part of the model that text does not pass",
            "vision_config.* audio_config.* audio_encoder_config.* depth_decoder_config.*",
        )
    ),
    **dict(_rows("a setting of another runtime", "transformers.js_config.* tf_legacy_loss")),
    **dict(_rows("an old name of the longest context", "n_ctx seq_length")),
    **dict(_rows("true of the architecture already", "is_llama_config is_decoder")),
    **dict(_rows(PRECISION, "attn_impl attn_implementation experts_implementation")),
    "model_type": Ignored("names a config inside of another, which its own keys describe"),
    "attn_uses_sequence_id": Ignored("false: rows hold one sequence each", (False,)),
    "dtype": Ignored("each tensor states its own data type in the checkpoint"),
    "num_nextn_predict_layers": Ignored("layers beside the model, for drafting tokens alone"),
    "num_mtp_layers": Ignored("layers beside the model, for drafting tokens alone"),
    "ep_size": Ignored("1: how experts were spread in training", (1,)),
    "cache_implementation": Ignored("how transformers stores its cache, not what is in it"),
    "max_window_layers": Ignored("no layer has a window", condition=_has_no_window),
    "no_rope_layer_interval": Ignored(
        "the config lists the layers without rotation", condition=_lists_rotation
    ),
    "use_gated_activation": Ignored("true of the architecture already", (True,)),
    "use_parallel_block": Ignored("true of the architecture already", (True,)),
    "use_parallel_embedding": Ignored("how the embedding was spread in training"),
    "use_embedding_sharing": Ignored("tie_word_embeddings says it as well", (True,)),
    "full_attn_mod": Ignored("1: no layer differs from the others", (1,)),
    "interpolate_factor": Ignored("1: positions are not interpolated", (1,)),
    "pretraining_tp": Ignored("1: projections were not split in training", (1,)),
    "rope_interleaved": Ignored(
        "false: rotary pairs are halves apart, as in transformers", (False,)
    ),
    "chunk_size_feed_forward": Ignored("0: the feed-forward part is not chunked", (0,)),
    "is_encoder_decoder": Ignored("false: there is no encoder", (False,)),
    "add_cross_attention": Ignored("false: there is no cross-attention", (False,)),
    "cross_attention_hidden_size": Ignored("0: there is no cross-attention", (0,)),
    "tie_encoder_decoder": Ignored("false: there is no encoder", (False,)),
    "attn_config.rope_theta": Ignored(
        "transformers 5 takes the theta of `rope_parameters`, and its class's where there is none"
    ),
    "max_position_embeddings": Ignored(
        "a limit on use: the rotary angles do not depend on it", condition=_length_is_unused
    ),
    "model_max_length": Ignored(
        "a limit on use: the rotary angles do not depend on it", condition=_length_is_unused
    ),
    "rope_parameters.max_position_embeddings": Ignored(
        "a limit on use: the rotary angles do not depend on it", condition=_length_is_unused
    ),
}

PRIVATE: dict[str, Ignored] = {
    **dict(_rows(RECORD, "_name_or_path _commit_hash _from_model_config _original_object_hash")),
    **dict(_rows(RECORD, "_class_name _diffusers_version _auto_class _from_auto _from_pipeline")),
    **dict(_rows(RECORD, "_pre_quantization_dtype _is_quantized _unsloth_version _post_init_done")),
    **dict(_rows(PRECISION, "_attn_implementation _attn_implementation_autoset")),
    **dict(_rows(PRECISION, "_attn_implementation_internal _experts_implementation")),
    **dict(_rows(PRECISION, "_experts_implementation_internal _moe_implementation")),
    **dict(_rows(PRECISION, "_flash_attn_2_enabled _flash_attn_3_enabled")),
    **dict(_rows(OUTPUTS, "_output_attentions _output_hidden_states")),
    **dict(_rows(LABELS, "_num_labels")),
    **dict(_rows(REMARK, "_comment _comments _note _notes _description _readme _doc _license")),
    "_sliding_window_pattern": Ignored("a copy that transformers writes and does not read"),
}
"""Keys that begin with `_`, at the top and inside of any object; others of that kind are keys like any."""

HELP = {
    "quantization_config": "the checkpoint is quantised; port the original one, or a family that reads it",
    "max_position_embeddings": "the family must say what happens beyond this length",
}


def account(config: ModelConfig, used_keys: Collection[str]) -> KeyAccount:
    """Sort the keys of a config into used, ignored and unread; the first unread ones have a diagnostic each."""
    read = frozenset(used_keys) | IDENTITY
    used = tuple(sorted(key for key in config.values if key in read))
    ignored = dict(config.dropped)
    rules = rules_of(config)
    meant, never_read = _lacking(config, rules, read), 0
    unread: dict[str, Ignored | None] = {}
    for key, value in config.values.items():
        if key in read or key in config.assumed:
            continue
        row = _row(key) or _row(_own_config(key, config.values, rules))
        if row is not None and _is_harmless(row, value, config.values, read):
            ignored[key] = row.reason
        elif never_read < MAX_NEVER_READ and _has_no_effect(rules, config, key, meant):
            never_read += 1
            ignored[key] = NEVER_READ.format(config.model_type, transformers_version())
        else:
            unread[key] = row
    # Made for those that are shown alone: each looks for a name that may have been meant.
    shown_first = [
        _unread(config, key, config.values[key], row, read)
        for key, row in islice(unread.items(), MAX_DIAGNOSTICS)
    ]
    if left := len(unread) - len(shown_first):
        more = Diagnostic("S425", f"nothing reads {left:,} more config keys", place=NAME)
        shown_first.append(more)
    return KeyAccount(used, ignored, tuple(unread), tuple(shown_first))


def _lacking(
    config: ModelConfig, rules: ClassRules | None, read: Collection[str]
) -> frozenset[str]:
    """Return the last names of keys that the family or the class reads and the file lacks."""
    known = {*read, *(rules.keys if rules is not None else ())}
    in_file = config.values.keys() - config.assumed.keys()
    return frozenset(key.rpartition(".")[2] for key in known - in_file)


def _has_no_effect(
    rules: ClassRules | None, config: ModelConfig, key: str, lacking: Collection[str]
) -> bool:
    """Tell whether transformers' code never reads a key, and it can be no size or misspelt key that it should have."""
    if rules is None or key.partition(".")[0] in STORED or reads(rules, key, config.values):
        return False
    value = config.values[key]
    if isinstance(value, int) and value > 1 and _assumes_sizes(config):
        return False
    return not get_close_matches(key.rpartition(".")[2], lacking, n=1, cutoff=MISSPELT)


def _assumes_sizes(config: ModelConfig) -> bool:
    """Tell whether the family needs a whole number that the file does not have under the class's name for it."""
    return any(needed and type(config.values[key]) is int for key, needed in config.assumed.items())


def _own_config(key: str, values: Mapping[str, object], rules: ClassRules | None) -> str:
    """Return the key inside of the config that it belongs to: the class says which are, or one names its model type."""
    own = key if rules is None else place(rules, key, values).key
    head, _, rest = own.partition(".")
    return rest if own == key and rest and f"{head}.model_type" in values else own


def _row(key: str) -> Ignored | None:
    own = key.rpartition(".")[2]
    if own in PRIVATE:
        return PRIVATE[own]
    if key in IGNORED:
        return IGNORED[key]
    parts = key.split(".")
    groups = (".".join(parts[:n]) + ".*" for n in range(1, len(parts)))
    return next((IGNORED[group] for group in groups if group in IGNORED), None)


def _is_harmless(
    row: Ignored, value: object, values: Mapping[str, object], read: Collection[str]
) -> bool:
    if row.condition is not None:
        return row.condition(values, read)
    return row.values is None or any(value == x and type(value) is type(x) for x in row.values)


def _unread(
    config: ModelConfig, key: str, value: object, row: Ignored | None, read: Collection[str]
) -> Diagnostic:
    raw = config.origins[key]
    hint = HELP.get(key.partition(".")[0], "")
    if row is None:
        message = f"nothing reads the config key `{shown(raw)}` = {shown(value)}"
        hint = hint or did_you_mean(key, read)
        return Diagnostic("S425", message, config.span_of(key), "unread", place=NAME, help=hint)
    allowed = "" if row.values is None else f"; ignored at {_either(row.values)} alone"
    message = f"the config key `{shown(raw)}` = {shown(value)} is not read by the family{allowed}"
    return Diagnostic("S426", message, config.span_of(key), "matters", place=NAME, help=hint)


def _either(values: tuple[object, ...]) -> str:
    return " or ".join(shown(value) for value in values)
