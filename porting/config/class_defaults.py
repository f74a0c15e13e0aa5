# SPDX-License-Identifier: Apache-2.0
"""Complete a config as transformers' class does: an absent key means the class's default, null what it does with None.

A key that the class does not let be null is refused. What the class computes from other keys (a head's width, the
kinds of layers) is for the family to say: `??` is what null or nothing means there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from dsl.diagnostics import Diagnostic, Refused
from dsl.text import syntax as sx
from porting.config.class_rules import (
    ROTATED,
    ClassRules,
    Rotation,
    causal_classes,
    class_rules,
    place,
)
from porting.config.reader import NAME, ModelConfig

OVERRULED = (
    "the class has a rotation of its own where the file has none, and takes no key beside it"
)
BY_LAYER = "the class takes a rotation for each kind of layer, and passes over a flat one"
UNTYPED = "the class takes `rope_type` alone for the type of a `rope_scaling`"
CAUSAL = ("ForCausalLM", "LMHeadModel")
TEXT = "text_config."
MAX_LAYERS = 4096
"""Of how many layers a list is made: far more than models have, and nothing for memory."""
BESIDE = {"rope_theta": "theta", "partial_rotary_factor": "part"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A value that a family asks a config for: the keys that may hold it, and whether it always needs one of them."""

    keys: tuple[str, ...]
    needed: bool


def asked(family: sx.Family) -> tuple[Asked, ...]:
    """Return what a family whose parts are in place asks a config for, whatever the config says."""
    return tuple(
        _asked(i for item in family.items if isinstance(item, sx.Config) for i in item.items)
    )


def _asked(items: Iterable[sx.ConfigItem], *, always: bool = True) -> Iterator[Asked]:
    for item in items:
        match item:
            case sx.ConfigIf(then=then, orelse=orelse):
                yield from _asked((*then, *orelse), always=False)
            case sx.Bind(value=sx.Key() as key, default=default):
                yield Asked(key.paths, always and default is None)


def rules_of(config: ModelConfig) -> ClassRules | None:
    """Return the rules of a config's class: by its model type, or, as when it is loaded, by the class it names."""
    said = config.values.get("model_type", config.model_type)
    rules = class_rules(said) if isinstance(said, str) else None
    if rules is not None:
        return rules
    named = causal_classes().get(config.architecture)
    return None if named is None else class_rules(named)


def causal_class(config: ModelConfig) -> str:
    """Return the class that transformers runs for a config that means a causal model by another name, else nothing.

    It goes by the model type alone. A name is another's where it says that it is of a causal model: the name of an
    encoder or of a head is no other name, and a model with others beside its text is for `text_part`.
    """
    rules = class_rules(config.model_type)
    name = config.architecture
    if rules is None or rules.causal == name:
        return ""
    return rules.causal if not name or name.endswith(CAUSAL) else ""


def completed(config: ModelConfig, wanted: Iterable[Asked]) -> ModelConfig:
    """Return the config with what its class says of the values asked for; raises `Refused` for nulls it does not take.

    Keys that the class gives are `assumed`, true where the family needs them.
    """
    rules = rules_of(config)
    if rules is None:
        return config
    wanted = tuple(wanted)
    config = _rotated(_renamed(config, rules, wanted), rules, wanted)
    refused = [d for ask in wanted for d in _wrong_nulls(config, rules, ask)]
    if refused:
        raise Refused(tuple(dict.fromkeys(refused)))
    assumed: dict[str, bool] = {}
    values = dict(config.values)
    # What the file has may stand elsewhere by now, as rotary keys do.
    written = {origin.removeprefix(TEXT) for origin in config.origins.values()}
    for ask in wanted:
        if any(key in config.values or key in config.nulls or key in written for key in ask.keys):
            continue
        for key in ask.keys:
            value = _default(config, rules, key)
            if value is None and ask.needed:
                value = _list(config, rules, key)
            if value is not None:
                values[key] = value
                assumed[key] = ask.needed or assumed.get(key, False)
                break
    origins = {**config.origins, **{key: key for key in assumed}}
    return replace(config, values=values, origins=origins, assumed=assumed)


def _renamed(config: ModelConfig, rules: ClassRules, wanted: Iterable[Asked]) -> ModelConfig:
    """Call keys by the class's own names where the family asks for those alone."""
    known = {key for ask in wanted for key in ask.keys}
    moved = {
        other: name
        for other, name in rules.names.items()
        if other in config.values and other not in known and name in known - config.values.keys()
    }
    if not moved:
        return config
    return replace(
        config,
        values={moved.get(key, key): value for key, value in config.values.items()},
        origins={moved.get(key, key): origin for key, origin in config.origins.items()},
    )


def _wrong_nulls(config: ModelConfig, rules: ClassRules, ask: Asked) -> Iterable[Diagnostic]:
    if any(key in config.values for key in ask.keys):
        return
    for key in ask.keys:
        at = place(rules, key, config.values)
        beside = f"{at.prefix}rope_theta"
        taken = at.rules.rotation is not None and at.rules.rotation.theta
        if taken and at.key == f"{ROTATED}.rope_theta" and beside in config.nulls:
            yield _null_theta(config, beside, at.rules)
        if key not in config.nulls or at.key not in at.rules.keys:
            continue
        default = at.rules.keys[at.key]
        if at.key not in at.rules.nullable:
            said = f"transformers' {at.rules.name} takes no null there"
        elif ask.needed:
            said = "the family has no meaning for null there"
        else:
            continue
        yield Diagnostic(
            "S428",
            f"the config key `{key}` is null, and {said}",
            config.span_of(key),
            place=NAME,
            help=f"leave it out for the class's default, {default}, or write the model's own value",
        )


def _null_theta(config: ModelConfig, key: str, rules: ClassRules) -> Diagnostic:
    return Diagnostic(
        "S428",
        f"the config key `{key}` is null, and transformers' {rules.name} takes no null there",
        config.span_of(key),
        place=NAME,
        help="leave it out for the class's default, or write the model's own value",
    )


def _default(config: ModelConfig, rules: ClassRules, key: str) -> object:
    """Return what the class has for a dotted key that the file does not have, None for nothing."""
    at = place(rules, key, config.values)
    head, _, rest = at.key.partition(".")
    if head == ROTATED and at.rules.rotation is not None:
        return _rotary(config, at.prefix, at.rules.rotation).get(rest)
    if at.key in at.given:
        return at.given[at.key]
    value = at.rules.keys.get(head)
    for part in rest.split(".") if rest else ():
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, Mapping) else value


def _list(config: ModelConfig, rules: ClassRules, key: str) -> object:
    """Return the list that the class makes from the number of layers; None where the file says what else it is of."""
    at = place(rules, key, config.values)
    rule = at.rules.lists.get(at.key)
    if rule is None:
        return None
    keys = at.rules.keys
    said = {name: config.values.get(f"{at.prefix}{name}", keys.get(name)) for name in rule.inputs}
    usual = all(value == keys.get(name) for name, value in said.items())
    emptied = any(f"{at.prefix}{name}" in config.nulls for name in rule.inputs)
    layers = config.values.get(f"{at.prefix}{at.rules.layers}", keys.get(at.rules.layers))
    if emptied or not usual or not isinstance(layers, int) or not 0 < layers <= MAX_LAYERS:
        return None
    return rule.made(layers)


def _rotary(config: ModelConfig, prefix: str, rotation: Rotation) -> Mapping[str, object]:
    """Return the rotary keys that a class adds to those of the file."""
    stated = _stated(config, prefix)
    if not stated:
        return rotation.absent
    own = f"{prefix}{ROTATED}."
    kinds = {
        key.removeprefix(own).partition(".")[0] for key in stated if "." in key.removeprefix(own)
    }
    return rotation.layers if kinds else rotation.beside


def _stated(config: ModelConfig, prefix: str) -> tuple[str, ...]:
    """Return the keys of the rotation that the file itself states, other than by keys beside it."""
    own = f"{prefix}{ROTATED}."
    return tuple(
        key
        for key, origin in config.origins.items()
        if key.startswith(own) and origin.removeprefix(prefix).startswith((ROTATED, "rope_scaling"))
    )


def _rotated(config: ModelConfig, rules: ClassRules, wanted: Iterable[Asked]) -> ModelConfig:
    """Leave out rotary keys that the class passes over."""
    places = [place(rules, key, config.values) for ask in wanted for key in ask.keys]
    for at in {at.prefix: at for at in places if at.key.startswith(f"{ROTATED}.")}.values():
        if at.rules.rotation is not None:
            config = _heard(config, at.prefix, at.rules.rotation)
            config = _without(config, at.prefix, at.rules.rotation)
    return config


def _heard(config: ModelConfig, prefix: str, rotation: Rotation) -> ModelConfig:
    """Leave out of a `rope_scaling` what the class passes over."""
    former = [
        key
        for key in _stated(config, prefix)
        if config.origins[key].removeprefix(prefix).startswith("rope_scaling")
    ]
    typed = [key for key in former if config.origins[key].endswith(".type")]
    return _dropped(config, dict.fromkeys(typed, UNTYPED)) if rotation.untyped else config


def _dropped(config: ModelConfig, lost: Mapping[str, str]) -> ModelConfig:
    """Return the config without some keys, each with the reason."""
    return replace(
        config,
        values={key: value for key, value in config.values.items() if key not in lost},
        origins={key: origin for key, origin in config.origins.items() if key not in lost},
        dropped={**config.dropped, **{config.origins[key]: why for key, why in lost.items()}},
    )


def _without(config: ModelConfig, prefix: str, rotation: Rotation) -> ModelConfig:
    own = f"{prefix}{ROTATED}."
    stated = _stated(config, prefix)
    flat = [key for key in stated if "." not in key.removeprefix(own)]
    if not stated:
        typed = rotation.absent.get("rope_type", "default") != "default" or not rotation.theta
        lost = {key: OVERRULED for key, name in _beside(config, own) if not getattr(rotation, name)}
        made = (f"{own}rope_type",) if typed or lost else ()
    else:
        layered = any("." in key for key in rotation.beside) and "rope_type" not in rotation.former
        passed = layered and all(
            config.origins[key].endswith(f"{ROTATED}.{key.removeprefix(own)}") for key in flat
        )
        lost = dict.fromkeys(flat, BY_LAYER) if passed else {}
        made = ()
    config = _dropped(config, lost)
    return replace(
        config,
        values={key: value for key, value in config.values.items() if key not in made},
        origins={key: origin for key, origin in config.origins.items() if key not in made},
    )


def _beside(config: ModelConfig, own: str) -> list[tuple[str, str]]:
    pairs = [(f"{own}{key}", name) for key, name in BESIDE.items()]
    return [(key, name) for key, name in pairs if key in config.values]
