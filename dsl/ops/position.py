# SPDX-License-Identifier: Apache-2.0
"""What depends on where a token stands: positions, their tables, rotations and scales.

The mask and the bias by distance are `attention`'s own.
"""

from __future__ import annotations

from dsl.ops.rotary_numbers import faulty_frequencies, is_single
from dsl.ops.spec import OpSpec, Param, Role, Site, is_float, no_traffic
from dsl.symbolic import Dim, equal, names, text
from dsl.types import DTYPES, Axis, Kind, TensorType


def _tokens(site: Site) -> TensorType:
    tokens = site.type("tokens")
    counted = tokens.rank == 2 and tokens.dtype.kind is Kind.INTEGER
    site.need(counted, 1, f"tokens are {tokens}", "tokens")
    return tokens


def _positions(site: Site) -> tuple[TensorType, ...]:
    return (TensorType(DTYPES["i32"], _tokens(site).axes),)


def _sinusoids(site: Site) -> tuple[TensorType, ...]:
    tokens, width = _tokens(site), site.dim("width")
    site.divide(width, 2, 2, "width")
    least = 4 if site.attrs["ends"] is True else 2
    enough = not isinstance(width, int) or width >= least
    site.need(enough, 2, f"the width is {text(width)}", "width")
    return (TensorType(DTYPES["f32"], (*tokens.axes, Axis(width))),)


def _alibi_slopes(site: Site) -> tuple[TensorType, ...]:
    count = site.dim("count")
    site.need(not equal(count, 0), 1, "there is no head", "count")
    return (TensorType(DTYPES["f32"], (Axis(count),)),)


def _position_scale(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    site.need(is_float(x) and x.rank >= 3, 1, f"x is {x}", "x")
    length = site.attrs["length"]
    positive = not isinstance(length, (int, float)) or length > 0
    site.need(positive, 2, f"length is {length}", "length")
    return (x,)


SCALED_BY = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
    "proportional": ("factor",),
}


def _rope_frequencies(site: Site) -> tuple[TensorType, ...]:
    half = site.divide(site.dim("width"), 2, 1, "width")
    site.need(not equal(half, 0), 1, "width is 0", "width")
    factors = site.attrs.get("factors")
    if isinstance(factors, tuple):
        fits = not isinstance(half, int) or len(factors) == half
        shown = f"there are {len(factors)} factors for {text(half)} frequencies"
        site.need(fits, 2, shown, "factors")
        positive = all(isinstance(f, (int, float)) and f > 0 for f in factors)
        site.need(positive, 2, "a factor is not positive", "factors")
    _scaled(site)
    faulty = faulty_frequencies(site.dim("width"), site.attrs)
    site.need(not faulty, 4, faulty, "theta")
    return (TensorType(DTYPES["f32"], (Axis(half),)),)


def _scaled(site: Site) -> None:
    """Check the numbers that the scaling divides by, or takes the logarithm of."""
    scaling = site.attrs.get("scaling")
    for name in ("theta", *SCALED_BY.get(str(scaling), ())):
        value = site.attrs.get(name)
        positive = not isinstance(value, (int, float)) or value > 0
        site.need(positive, 3, f"{name} is {value}", name)
    even = scaling == "yarn" and site.attrs.get("theta") == 1
    site.need(not even, 3, "theta is 1, so that all frequencies are alike", "theta")


def _rope(site: Site) -> tuple[TensorType, ...]:
    x = site.rank("x", 4, 1)
    site.need(is_float(x), 1, f"x is {x}", "x")
    site.need_shard(not x.axes[3].shards, 4, f"x is {x}", "x")
    freqs = site.rank("freqs", 1, 2)
    width, rotated = x.axes[3].dim, 2 * freqs.axes[0].dim
    smaller = isinstance(width, int) and isinstance(rotated, int) and rotated <= width
    shown = f"freqs rotate {text(rotated)} of {text(width)}"
    site.need(smaller or equal(width, rotated) or _unknown(width, rotated), 3, shown, "freqs")
    _beyond(site, freqs)
    for name in ("scale", "long_scale"):
        value = site.attrs.get(name)
        site.need(is_single(value), 7, f"{name} is {value}", name)
    return (x,)


def _beyond(site: Site, freqs: TensorType) -> None:
    """Check what a rotation says about sequences beyond the original length."""
    long = site.optional("long")
    shown = f"long is {long}, freqs is {freqs}"
    alike = long is None or (long.rank == 1 and equal(long.dims[0], freqs.dims[0]))
    site.need(alike, 5, shown, "long")
    growing = site.attrs["growth"] != 0.0
    changing = [n for n in ("long", "long_scale") if n in site.types or n in site.attrs]
    site.need(not (growing and changing), 6, f"growth beside {' and '.join(changing)}", "growth")
    original = site.attrs["original"]
    known = isinstance(original, (int, float))
    bounded = not known or original != 0.0
    shown = f"original is {original}" if known else ""
    site.need(bounded or not (growing or changing), 6, shown, "x")
    single = growing and equal(freqs.dims[0], 1)
    site.need(not single, 6, f"growth of {freqs}", "growth")


def _unknown(a: Dim, b: Dim) -> bool:
    """Tell whether two sizes are unrelated, so that their order is a matter of the config."""
    return not (isinstance(a, int) and isinstance(b, int)) and names(a).isdisjoint(names(b))


def _rotation_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 3 * results[0].local_elements()


def _scale_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return results[0].local_elements()


POSITIONS = OpSpec(
    name="positions",
    summary="The absolute position of each token, to look a learned table up by.",
    params=(
        Param("tokens"),
        Param("at", Role.CONTEXT),
        Param("offset", Role.DIM, 0),
    ),
    result="i32[B, S]",
    constraints=("tokens are integers with two axes, [B, S]",),
    semantics="y[b, s] = at + s + offset; a table that is gathered by it bounds the length of a sequence",
    cost="0",
    example="x = gather(embed, tokens) + gather(places, positions(tokens, at=C, offset=2))",
    infer=_positions,
)

SINUSOIDS = OpSpec(
    name="sinusoids",
    summary="Fixed embeddings of positions: sines and cosines of geometric frequencies.",
    params=(
        Param("tokens"),
        Param("width", Role.DIM),
        Param("at", Role.CONTEXT),
        Param("offset", Role.DIM, 0),
        Param("theta", Role.FLOAT, 10000.0),
        Param("ends", Role.BOOL, False),
        Param("order", Role.CHOICE, "sin_cos", ("sin_cos", "cos_sin", "interleaved")),
    ),
    result="f32[B, S, width]",
    constraints=(
        "tokens are integers with two axes, [B, S]",
        "width is even and at least 2, at least 4 where ends",
    ),
    semantics=(
        "with p = at + s + offset and angle p * theta^(-2j / width), or p * theta^(-j / (width / 2 - 1)) where ends: "
        "sines of all j, then cosines (sin_cos), cosines first (cos_sin), or y[2j] the sine and y[2j + 1] the cosine "
        "(interleaved). Marian, Pegasus and CTRL are sin_cos; XGLM, M2M100 and TrOCR sin_cos with ends and offset=2; "
        "MusicGen cos_sin with ends; XLM interleaved (transformers)"
    ),
    cost="0",
    example='x = gather(embed, tokens) + cast(sinusoids(tokens, D, at=C, offset=2, ends=true), "bf16")',
    infer=_sinusoids,
)

ALIBI_SLOPES = OpSpec(
    name="alibi_slopes",
    summary="The slope of each head's bias by distance, a table computed when the model is loaded.",
    params=(
        Param("count", Role.DIM),
        Param("bias_max", Role.FLOAT, 8.0),
        Param("scale", Role.FLOAT, 1.0),
    ),
    result="f32[count]",
    constraints=("there is at least one head",),
    semantics=(
        "with n the largest power of two up to count: scale * 2^(-bias_max * (h + 1) / n) for h < n, then "
        "scale * 2^(-bias_max * (2 (h - n) + 1) / (2 n)) (transformers: Bloom, MPT; Falcon has scale = E^-0.5)"
    ),
    cost="0",
    example="slopes = alibi_slopes(H)",
    infer=_alibi_slopes,
    traffic=no_traffic,
)

POSITION_SCALE = OpSpec(
    name="position_scale",
    summary="Scale values by a slowly growing function of the token's position.",
    params=(
        Param("x"),
        Param("at", Role.CONTEXT),
        Param("length", Role.FLOAT),
        Param("gain", Role.FLOAT),
        Param("offset", Role.DIM, 0),
        Param("kind", Role.CHOICE, "log", ("log", "power", "beyond")),
    ),
    result="as x",
    constraints=(
        "x is float, with tokens and at least one axis more: [B, ..., S, ...]",
        "length is positive",
    ),
    semantics=(
        "with p = at + s + offset: y = x * (1 + gain * log(1 + floor(p / length))) (log), x * (1 + p / length)^gain "
        "(power), or x * (1 + gain * log(max(p / length, 1))) (beyond). Llama 4 has log, offset=1, length=floor_scale, "
        "gain=attn_scale; Ministral 3 log with length=original_max_position_embeddings, gain=llama_4_scaling_beta; "
        "Beam power with offset=1; Inkling beyond with offset=1 (transformers)"
    ),
    cost="elements(x)",
    example="q = position_scale(q, at=C, length=8192.0, gain=0.1, offset=1)",
    infer=_position_scale,
    flops=_scale_flops,
    keeps_axes=True,
    lengths=("length",),
)

ROPE_FREQUENCIES = OpSpec(
    name="rope_frequencies",
    summary="The inverse frequencies of rotary positions, a table computed when the model is loaded.",
    params=(
        Param("width", Role.DIM),
        Param("theta", Role.FLOAT),
        Param(
            "scaling",
            Role.CHOICE,
            "default",
            ("default", "linear", "llama3", "yarn", "proportional"),
        ),
        Param("factor", Role.FLOAT, 1.0),
        Param("low_freq_factor", Role.FLOAT, 1.0),
        Param("high_freq_factor", Role.FLOAT, 1.0),
        Param("original_max_position_embeddings", Role.FLOAT, 0.0),
        Param("beta_fast", Role.FLOAT, 32.0),
        Param("beta_slow", Role.FLOAT, 1.0),
        Param("truncate", Role.BOOL, True),
        Param("factors", Role.FLOATS, None),
        Param("proportion", Role.FLOAT, 1.0),
        Param("growth", Role.FLOAT, 0.0),
        Param("original", Role.FLOAT, 0.0),
    ),
    result="f32[width // 2]",
    constraints=(
        "width is even and not 0",
        "factors are positive, one for each frequency",
        "theta and the numbers that the scaling reads are positive; with yarn theta is not 1",
        "frequencies are float32 numbers; yarn's bounds are finite, and so is proportion",
    ),
    semantics=(
        "f[j] = theta^(-2j / width), then per scaling: linear divides by factor; llama3 keeps wavelengths below "
        "original / high_freq_factor, divides those above original / low_freq_factor by factor, and interpolates "
        "between; yarn keeps j below the one that turns beta_fast times in original positions, divides those above the "
        "one that turns beta_slow times by factor, and interpolates between, the two bounds rounded outwards where "
        "truncate; proportional divides by factor and has f[j] = 0 from j = int(proportion * width // 2) on; factors, "
        "where given, divide each frequency by its own, as longrope does; growth and original change nothing here and "
        "are handed on to the rope that reads the table (transformers, modeling_rope_utils.py)"
    ),
    cost="0",
    example="freqs = rope_frequencies(E, theta=theta)",
    infer=_rope_frequencies,
    traffic=no_traffic,
    hands=("growth", "original"),
)

ROPE = OpSpec(
    name="rope",
    summary="Rotate pairs of a head's coordinates by the token's position.",
    params=(
        Param("x"),
        Param("freqs"),
        Param("at", Role.CONTEXT),
        Param("scale", Role.FLOAT, 1.0),
        Param("pairing", Role.CHOICE, "half", ("half", "interleaved")),
        Param("backwards", Role.BOOL, False),
        Param("long", default=None),
        Param("long_scale", Role.FLOAT, None),
        Param("original", Role.FLOAT, 0.0),
        Param("growth", Role.FLOAT, 0.0),
    ),
    result="as x",
    constraints=(
        "x is float, with four axes, [B, N, S, E]",
        "freqs has one axis, [R // 2]",
        "R is not larger than E",
        "the head's own axis is not sharded",
        "long has the shape of freqs",
        "long and long_scale, or growth of at least two frequencies, need an original length; not both",
        "scale and long_scale are float32 numbers",
    ),
    semantics=(
        "with p = at + s and angle p * freqs[j]: the pair (x[j], x[j + R/2]) (half) or (x[2j], x[2j + 1]) "
        "(interleaved) is rotated, by the negative angle where backwards; cos and sin are multiplied by scale; "
        "coordinates from R on pass unchanged. Where the sequence with its new tokens is longer than original, N > "
        "original: long and long_scale stand for freqs and scale (transformers' longrope), or freqs[j] is multiplied "
        "by (growth * N / original - growth + 1)^(-2j / (R - 2)) (transformers' dynamic, with growth=factor and "
        "original=max_position_embeddings); growth and original are those of freqs where left out. N counts for every "
        "token of the sequence, those before too: where a step crosses original, or with growth ends beyond it, the "
        "whole sequence is computed anew, so that a step has the bits of all tokens so far in one go"
    ),
    cost="3 * elements(x)",
    example="q = rope(heads(matmul(h, wq), H), freqs, at=C)",
    infer=_rope,
    flops=_rotation_flops,
    keeps_axes=True,
    lengths=("original",),
)

SPECS = (POSITIONS, SINUSOIDS, ALIBI_SLOPES, POSITION_SCALE, ROPE_FREQUENCIES, ROPE)
