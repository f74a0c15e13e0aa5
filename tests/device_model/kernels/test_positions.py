# SPDX-License-Identifier: Apache-2.0
"""Operations on positions and the masks and biases of attention, against transformers' own functions."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.kernels.position import scales, sinusoids, slopes
from device_model.kernels.rotary import frequencies, rotation
from device_model.numbers.numerics import Array
from device_model.program.call import Batch
from device_model.weights.reading import ArrayReader
from dsl.diagnostics import Refused
from dsl.graph import Attr, Node
from tests.device_model.graphs import SPAN, B, C, Flow, S, tensor

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

RAGGED = (5, 23, 1, 12)
LENGTH = 23


def modeling(name: str) -> Any:
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def rows(length: int, start: int = 0) -> Batch:
    """Return the rows of the last tokens of one sequence of this length."""
    count = length - start
    sequence = np.zeros(count, np.int64)
    return Batch(sequence, np.arange(start, length), np.array([0, count]), np.array([length]))


@pytest.mark.parametrize(
    ("model", "attrs"),
    [
        ("xglm", {"offset": 2, "ends": True}),
        ("m2m_100", {"offset": 2, "ends": True}),
        ("trocr", {"offset": 2, "ends": True}),
        ("musicgen", {"ends": True, "order": "cos_sin"}),
        ("ctrl", {}),
        ("marian", {}),
        ("pegasus", {}),
        ("xlm", {"order": "interleaved"}),
    ],
)
def test_sinusoids_of(model: str, attrs: dict[str, Attr]) -> None:
    width, module = 16, modeling(model)
    if model == "ctrl":
        truth = module.positional_encoding(40, width, torch.float64)
    elif model == "xlm":
        truth = torch.zeros(40, width)
        module.create_sinusoidal_embeddings(40, width, truth)
    else:
        prefix = {"m2m_100": "M2M100", "xglm": "XGLM", "trocr": "TrOCR"}
        kind = f"{prefix.get(model, model.title())}SinusoidalPositionalEmbedding"
        maker = getattr(module, kind)
        if hasattr(maker, "create_weight"):
            truth = maker(40, width).create_weight()
        elif model == "musicgen":
            truth = maker.get_embedding(40, width)
        else:
            truth = maker.get_embedding(40, width, 1)
    offset = attrs.get("offset", 0)
    assert isinstance(offset, int)
    made = sinusoids({"width": width, **attrs}, rows(40 - offset))
    assert np.allclose(made, truth.numpy()[offset:], atol=5e-6)


@pytest.mark.parametrize("heads", [1, 2, 3, 7, 8, 12, 16, 20, 71, 112])
def test_alibi_slopes(heads: int) -> None:
    bloom = modeling("bloom")._get_alibi_slopes(heads, torch.device("cpu")).numpy()
    assert np.allclose(slopes({"count": heads}), bloom, rtol=1e-5)
    for bias_max in (8, 4, 16):
        mpt = modeling("mpt").build_mpt_alibi_tensor(heads, 3, bias_max).numpy()
        made = slopes({"count": heads, "bias_max": float(bias_max)})
        assert np.allclose(made[:, None] * [-2, -1, 0], mpt[:, 0], rtol=1e-5)


def test_falcons_bias() -> None:
    mask = torch.ones(1, 5)
    truth = modeling("falcon").build_alibi_tensor(mask, 12, torch.float32).numpy()
    made = slopes({"count": 12, "scale": 0.25})
    assert np.allclose(made[:, None] * np.arange(5), truth[:, 0] * 0.25, rtol=1e-2)


def test_scales_by_position() -> None:
    places = torch.arange(300)[None]
    ministral = modeling("ministral3").get_llama_4_attn_scale(places, 0.1, 64)
    made = scales({"length": 64.0, "gain": 0.1}, rows(300))
    assert np.allclose(made, ministral[0, 0, :, 0].numpy(), rtol=1e-6)
    beam = modeling("beam").compute_attention_scaling(places)
    attrs: dict[str, Attr] = {"length": 2048.0, "gain": 0.1, "offset": 1, "kind": "power"}
    assert np.allclose(scales(attrs, rows(300)), beam[0, 0, :, 0].numpy(), rtol=1e-6)


def test_llama_4s_scale() -> None:
    module, transformers = modeling("llama4"), importlib.import_module("transformers")
    config = transformers.Llama4TextConfig(
        hidden_size=16, num_attention_heads=2, num_key_value_heads=2, head_dim=8, floor_scale=4,
        attn_scale=0.3, num_hidden_layers=1, no_rope_layers=[0], use_qk_norm=False,
    )  # fmt: skip
    config._attn_implementation = "eager"
    layer = module.Llama4TextAttention(config, 0).double().eval()
    seen: list[Array] = []

    def catch(*given: Any, **_: Any) -> Any:
        seen.append(given[1].detach().numpy())
        return torch.zeros(1, 20, 2, 8, dtype=torch.float64), None

    x = torch.randn(1, 20, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    interface = module.ALL_ATTENTION_FUNCTIONS
    original = type(interface).get_interface
    try:
        type(interface).get_interface = lambda *_: catch
        layer(x, None, None, None)
    finally:
        type(interface).get_interface = original
    plain = layer.q_proj(x).view(1, 20, 2, 8).transpose(1, 2).detach().numpy()
    attrs: dict[str, Attr] = {"length": 4.0, "gain": 0.3, "offset": 1}
    made = plain * scales(attrs, rows(20))[None, None, :, None]
    assert np.allclose(seen[0], made, rtol=1e-6)


def config(rope: dict[str, Any], **more: Any) -> Any:
    """Return the part of a configuration that the frequencies are made from."""
    return SimpleNamespace(
        rope_parameters={"rope_theta": 1e4, **rope}, head_dim=16, hidden_size=64,
        num_attention_heads=4, max_position_embeddings=64, standardize_rope_params=lambda: None,
        **more,
    )  # fmt: skip


def transformers_frequencies(rope: dict[str, Any], length: int | None = None) -> Array:
    kinds = importlib.import_module("transformers.modeling_rope_utils").ROPE_INIT_FUNCTIONS
    made, _ = kinds[rope["rope_type"]](config(rope), "cpu", seq_len=length)
    return np.asarray(made.numpy(), np.float64)


LONG, SHORT = [1.0 + 0.5 * j for j in range(8)], [1.0 + 0.1 * j for j in range(8)]


@pytest.mark.parametrize(
    "attrs",
    [
        {"scaling": "linear", "factor": 4.0},
        {"scaling": "proportional", "proportion": 0.5, "factor": 2.0},
        {"scaling": "proportional", "proportion": 0.3},
        {"scaling": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {
            "scaling": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
            "beta_fast": 8.0, "truncate": False,
        },
        {
            "scaling": "llama3", "factor": 8.0, "original_max_position_embeddings": 32,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        },
    ],
)  # fmt: skip
def test_frequencies_of_transformers(attrs: dict[str, Attr]) -> None:
    rope = {("rope_type" if k == "scaling" else k): v for k, v in attrs.items()}
    rope["partial_rotary_factor"] = rope.pop("proportion", 1.0)
    made = frequencies({"width": 16, "theta": 1e4, **attrs})
    assert np.allclose(made, transformers_frequencies(rope), rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("length", [5, 48, 49, 90])
def test_longrope(length: int) -> None:
    rope = {
        "rope_type": "longrope", "factor": 2.0, "long_factor": LONG, "short_factor": SHORT,
        "original_max_position_embeddings": 48,
    }  # fmt: skip
    short, long = (
        frequencies({"width": 16, "theta": 1e4, "factors": tuple(f)}) for f in (SHORT, LONG)
    )
    at = rows(length, length - 3)
    attrs: dict[str, Attr] = {"original": 48.0, "scale": 1.5, "long_scale": 2.0}
    cos, sin = rotation(attrs, short, long).tables(at)
    truth = transformers_frequencies(rope, length)
    angle, scale = at.positions[:, None] * truth, 2.0 if length > 48 else 1.5
    assert np.allclose(cos, scale * np.cos(angle), atol=1e-4)
    assert np.allclose(sin, scale * np.sin(angle), atol=1e-4)


@pytest.mark.parametrize("length", [5, 64, 65, 200])
def test_dynamic(length: int) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0}
    at = rows(length, length - 3)
    plain = frequencies({"width": 16, "theta": 1e4})
    cos, sin = rotation({"original": 64.0, "growth": 2.0}, plain, None).tables(at)
    angle = at.positions[:, None] * transformers_frequencies(rope, length)
    assert np.allclose(cos, np.cos(angle), atol=1e-4)
    assert np.allclose(sin, np.sin(angle), atol=1e-4)
    back, _ = rotation({"original": 64.0, "growth": 2.0, "backwards": True}, plain, None), None
    assert np.array_equal(back.tables(at)[1], -sin)


def test_the_length_that_counts_is_each_sequences_own() -> None:
    sequence = np.array([0, 0, 1])
    packed = Batch(sequence, np.array([3, 4, 9]), np.array([0, 2, 3]), np.array([5, 10]))
    short, long = np.array([1.0, 0.1]), np.array([0.5, 0.05])
    cos, _ = rotation({"original": 5.0}, short, long).tables(packed)
    assert np.allclose(cos, np.cos([[3, 0.3], [4, 0.4], [4.5, 0.45]]))


@pytest.mark.parametrize(
    ("model", "pairing", "width"),
    [
        ("gptj", "interleaved", 8), ("codegen", "interleaved", 8), ("glm", "interleaved", 8),
        ("glm4", "interleaved", 8), ("cohere", "interleaved", 16), ("cohere2", "interleaved", 16),
        ("ernie4_5", "interleaved", 16), ("helium", "interleaved", 16), ("blt", "interleaved", 16),
        ("gpt_neox", "half", 8), ("phi", "half", 8), ("persimmon", "half", 8),
        ("stablelm", "half", 8), ("nemotron", "half", 8), ("glm4_moe", "half", 8),
        ("llama", "half", 16), ("falcon", "half", 16),
    ],
)  # fmt: skip
def test_pairings(model: str, pairing: str, width: int) -> None:
    module, size = modeling(model), 16
    x = np.random.default_rng(0).normal(size=(6, 1, size)).astype(np.float32)
    inverse = frequencies({"width": width, "theta": 1e4})
    angle = np.arange(6)[:, None] * inverse
    state = torch.tensor(x).transpose(0, 1)[None]
    if hasattr(module, "rotate_every_two"):
        turn = torch.tensor(np.concatenate([np.sin(angle), np.cos(angle)], -1))
        sin, cos = turn[None, :, : width // 2], turn[None, :, width // 2 :]
        first = state.transpose(1, 2)[..., :width]
        turned = module.apply_rotary_pos_emb(first, sin, cos).transpose(1, 2)
        truth = torch.cat([turned, state[..., width:]], -1)
    else:
        repeated = np.repeat(angle, 2, -1) if model in ("blt", "cohere", "cohere2") else None
        both = np.concatenate([angle, angle], -1) if repeated is None else repeated
        cos, sin = torch.tensor(np.cos(both))[None], torch.tensor(np.sin(both))[None]
        whole = model in ("glm", "glm4", "glm4_moe", "nemotron")
        given = state if whole else state[..., :width]
        turned, _ = module.apply_rotary_pos_emb(given, given, cos, sin)
        truth = turned if whole else torch.cat([turned, state[..., width:]], -1)
    made = run_rope(x, inverse, pairing)
    assert np.allclose(made, truth[0].transpose(0, 1).numpy(), atol=1e-6)


def run_rope(x: Array, inverse: Array, pairing: str) -> Array:
    """Return the rotation of x[T, N, E] as both kinds of kernels compute it."""
    f = Flow("f32")
    count, heads, size = x.shape
    flat = f.op("gather", (f.weight("t", count, heads * size), f.input()), B, S, heads * size)
    v = f.op("heads", (flat,), B, heads, S, size, count=heads)
    freqs = f.weight("freqs", len(inverse), dtype="f32")
    y = f.op("rope", (v, freqs), B, heads, S, size, at=C, pairing=pairing)
    f.output(f.op("merge", (y,), B, S, heads * size))
    tensors = {"t": x.reshape(count, -1), "freqs": inverse.astype(np.float32)}
    graph, reader = f.graph(), ArrayReader(tensors)
    fast, plain = (
        Engine(graph, reader, "f32", kernels).session().step([np.arange(count)])[0]
        for kernels in ("fast", "reference")
    )
    assert np.allclose(fast, plain, atol=1e-6)
    return fast.reshape(x.shape)


PLACES, VOCABULARY, WIDTH, HEADS = 40, 30, 24, 6


def decoder(**attention: Attr) -> tuple[Flow, dict[str, Array]]:
    """Return one attention layer over embedded tokens and positions, with every operation of this page."""
    f = Flow("f32")
    tokens = f.input()
    g = np.random.default_rng(3)
    tensors = {"embed": g.normal(size=(VOCABULARY, WIDTH)), "wpe": g.normal(size=(PLACES, WIDTH))}
    x = f.op("gather", (f.weight("embed", VOCABULARY, WIDTH), tokens), B, S, WIDTH)
    place = f.value(tensor("i32", B, S))
    f.steps[-1].append(
        Node("positions", (tokens,), (place,), {"at": C, "offset": 2}, SPAN, operands=("tokens",))
    )
    x = f.op(
        "add",
        (x, f.op("gather", (f.weight("wpe", PLACES, WIDTH), place), B, S, WIDTH)),
        B,
        S,
        WIDTH,
    )
    fixed = f.op("sinusoids", (tokens,), B, S, WIDTH, width=WIDTH, at=C, offset=1)
    x = f.op("add", (x, fixed), B, S, WIDTH)
    q, k, v = (f.op("heads", (x,), B, n, S, WIDTH // n, count=n) for n in (HEADS, HEADS, HEADS))
    q = f.op("position_scale", (q,), B, HEADS, S, 4, at=C, length=5.0, gain=0.3, offset=1)
    keys, values = f.state(B, HEADS, C, 4), f.state(B, HEADS, C, 4)
    k = f.op("append", (keys, k), B, HEADS, C + S, 4)
    v = f.op("append", (values, v), B, HEADS, C + S, 4)
    slopes = f.ops("alibi_slopes", (), (HEADS,), count=HEADS)[0]
    a = f.value(tensor("f32", B, HEADS, S, 4))
    operands = ("q", "k", "v", "slopes")
    f.steps[-1].append(
        Node("attention", (q, k, v, slopes), (a,), attention, SPAN, operands=operands)
    )
    f.output(f.op("merge", (a,), B, S, WIDTH))
    return f, {name: array.astype(np.float32) for name, array in tensors.items()}


def truth_of(tensors: dict[str, Array], tokens: Array, visible: Array) -> Array:
    """Return the layer of `decoder` with transformers' bias and tables, in float64."""
    count = len(tokens)
    place = torch.arange(count)
    x = tensors["embed"][tokens].astype(np.float64) + tensors["wpe"][2 : count + 2]
    x += modeling("ctrl").positional_encoding(count + 1, WIDTH, torch.float64).numpy()[1:]
    h = x.reshape(count, HEADS, 4).swapaxes(0, 1)
    scale = torch.log1p(torch.floor((place.double() + 1.0) / 5.0)) * 0.3 + 1.0
    bias = modeling("bloom").build_alibi_tensor(torch.ones(1, count), HEADS, torch.float64)
    scores = (h * scale.numpy()[:, None]) @ h.swapaxes(1, 2) / 2 + bias.numpy()
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (
        np.asarray((weights / weights.sum(-1, keepdims=True)) @ h)
        .swapaxes(0, 1)
        .reshape(count, WIDTH)
    )


def visible(**masked: int) -> Array:
    """Return transformers' mask of a sequence of LENGTH tokens."""
    masks = importlib.import_module("transformers.masking_utils")
    over = [masks.causal_mask_function]
    if "window" in masked:
        over.append(masks.sliding_window_overlay(masked["window"]))
    if "chunk" in masked:
        over.append(masks.chunked_overlay(masked["chunk"], torch.zeros(1, dtype=torch.int64)))
    seen = masks.and_masks(*over)
    q, k = torch.meshgrid(torch.arange(LENGTH), torch.arange(LENGTH), indexing="ij")
    return np.asarray(seen(0, 0, q, k).numpy(), bool)


MASKS = [{}, {"window": 6}, {"chunk": 7}, {"chunk": 7, "window": 5}]


@pytest.mark.parametrize("masked", MASKS)
def test_a_layer_with_biases_and_positions(masked: dict[str, int]) -> None:
    f, tensors = decoder(mask="causal", **masked)
    graph, reader = f.graph(), ArrayReader(tensors)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, LENGTH)
    truth = truth_of(tensors, tokens, visible(**masked))
    for kernels in ("fast", "reference"):
        (out,) = Engine(graph, reader, "f32", kernels).session().step([tokens])
        assert np.allclose(out, truth, atol=5e-6)


@pytest.mark.parametrize("masked", MASKS)
def test_bits_do_not_depend_on_chunks_packing_or_threads(masked: dict[str, int]) -> None:
    f, tensors = decoder(mask="causal", **masked)
    graph, reader = f.graph(), ArrayReader(tensors)
    engines = [Engine(graph, reader, "bf16", threads=n) for n in (1, 2)]
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, LENGTH)
    (whole,) = engines[0].session().step([tokens])
    for engine in engines:
        for chunk in (1, 4, LENGTH):
            session = engine.session()
            parts = [session.step([tokens[i : i + chunk]])[0] for i in range(0, LENGTH, chunk)]
            assert np.array_equal(np.concatenate(parts), whole)
        packed = engine.session(len(RAGGED)).step([tokens[:n] for n in RAGGED])
        for count, part in zip(RAGGED, packed, strict=True):
            assert np.array_equal(part, whole[:count])


def test_a_sequence_may_not_leave_the_table_of_positions() -> None:
    f, tensors = decoder(mask="causal")
    engine = Engine(f.graph(), ArrayReader(tensors), "f32")
    session = engine.session()
    session.step([np.zeros(PLACES - 2, np.int64)])
    with pytest.raises(Refused, match=r"S605.*39 tokens; the model has positions for 38"):
        session.step([np.zeros(1, np.int64)])
    assert session.lengths == (PLACES - 2,)


def test_a_step_with_long_factors() -> None:
    """Tokens that stand at one side of the original length have the same bits in all chunks."""
    f = Flow("f32")
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 16)).astype(np.float32)
    x = f.op("gather", (f.weight("t", VOCABULARY, 16), f.input()), B, S, 16)
    x = f.op("heads", (x,), B, 2, S, 8, count=2)
    freqs = f.ops("rope_frequencies", (), (4,), width=8, theta=100.0)[0]
    long = f.ops("rope_frequencies", (), (4,), width=8, theta=100.0, factors=(1.0, 2.0, 3.0, 4.0))[
        0
    ]
    y = f.op("rope", (x, freqs, long), B, 2, S, 8, at=C, original=12.0, long_scale=2.0)
    f.output(f.op("merge", (y,), B, S, 16))
    graph, reader = f.graph(), ArrayReader({"t": table})
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, 20)
    for kernels in ("fast", "reference"):
        engine = Engine(graph, reader, "f32", kernels)
        (short,) = engine.session().step([tokens[:12]])
        (whole,) = engine.session().step([tokens])
        session = engine.session()
        parts = [session.step([tokens[i : i + 4]])[0] for i in range(0, 20, 4)]
        assert np.array_equal(np.concatenate(parts[:3]), short)
        assert np.array_equal(np.concatenate(parts[3:]), whole[12:])
        assert not np.allclose(whole[:12], short)
        (first, second) = engine.session(2).step([tokens[:12], tokens])
        assert np.array_equal(first, short)
        assert np.array_equal(second, whole)


@pytest.mark.parametrize("window", [0, 9])
@pytest.mark.parametrize("reach", [1, 5, 40])
def test_a_bias_by_distance_for_each_query(reach: int, window: int) -> None:
    f, g = Flow("f32"), np.random.default_rng(5)
    tensors = {
        "t": g.normal(size=(LENGTH, HEADS * 4)), "r": g.normal(size=(LENGTH, HEADS * 3)),
        "proj": g.normal(size=(reach, 3)),
    }  # fmt: skip
    ids = f.input()
    x = f.op("gather", (f.weight("t", LENGTH, HEADS * 4), ids), B, S, HEADS * 4)
    r = f.op("gather", (f.weight("r", LENGTH, HEADS * 3), ids), B, S, HEADS * 3)
    x = f.op("heads", (x,), B, HEADS, S, 4, count=HEADS)
    r = f.op("heads", (r,), B, HEADS, S, 3, count=HEADS)
    bias = f.op("matmul", (r, f.weight("proj", reach, 3)), B, HEADS, S, reach)
    keys, values = f.state(B, HEADS, C, 4), f.state(B, HEADS, C, 4)
    k = f.op("append", (keys, x), B, HEADS, C + S, 4)
    v = f.op("append", (values, x), B, HEADS, C + S, 4)
    a = f.value(tensor("f32", B, HEADS, S, 4))
    attrs: dict[str, Attr] = {"mask": "causal", "window": window}
    f.steps[-1].append(
        Node("attention", (x, k, v, bias), (a,), attrs, SPAN, operands=("q", "k", "v", "bias"))
    )
    f.output(f.op("merge", (a,), B, S, HEADS * 4))
    graph = f.graph()
    reader = ArrayReader({name: array.astype(np.float32) for name, array in tensors.items()})
    profiles = modeling("inkling").InklingRelativeLogits(3, reach).double()
    profiles.proj.data = torch.tensor(tensors["proj"].T)
    place = torch.arange(LENGTH)
    states = torch.tensor(tensors["r"]).view(1, LENGTH, HEADS, 3)
    h = tensors["t"].reshape(LENGTH, HEADS, 4).swapaxes(0, 1)
    scores = h @ h.swapaxes(1, 2) / 2 + profiles(states, place, place)[0].detach().numpy()
    seen = visible(window=window) if window else visible()
    weights = np.exp(np.where(seen, scores, -np.inf))
    truth = ((weights / weights.sum(-1, keepdims=True)) @ h).swapaxes(0, 1).reshape(LENGTH, -1)
    ids = np.arange(LENGTH)
    for kernels in ("fast", "reference"):
        engine = Engine(graph, reader, "f32", kernels)
        (out,) = engine.session().step([ids])
        assert np.allclose(out, truth, atol=5e-6)
        session = engine.session()
        parts = [session.step([ids[i : i + 5]])[0] for i in range(0, LENGTH, 5)]
        assert np.array_equal(np.concatenate(parts), out)


def test_inklings_scale() -> None:
    place = np.arange(1, 101)
    truth = 1.0 + 0.2 * np.log(np.maximum(place / 16, 1.0))
    attrs: dict[str, Attr] = {"length": 16.0, "gain": 0.2, "offset": 1, "kind": "beyond"}
    assert np.allclose(scales(attrs, rows(100)), truth, rtol=1e-6)


@pytest.mark.parametrize("op", ["rms_norm", "layer_norm"])
def test_norms_with_weights_for_each_head(op: str) -> None:
    f, g = Flow("f32"), np.random.default_rng(5)
    tensors = {
        "t": g.normal(size=(LENGTH, 24)),
        "w": g.normal(size=(HEADS, 4)),
        "b": g.normal(size=(HEADS, 4)),
    }
    x = f.op("gather", (f.weight("t", LENGTH, 24), f.input()), B, S, 24)
    x = f.op("heads", (x,), B, HEADS, S, 4, count=HEADS)
    parameters = [f.weight("w", HEADS, 4)]
    parameters += [f.weight("b", HEADS, 4)] if op == "layer_norm" else []
    y = f.op(op, (x, *parameters), B, HEADS, S, 4, eps=1e-5)
    f.output(f.op("merge", (y,), B, S, 24))
    reader = ArrayReader({name: array.astype(np.float32) for name, array in tensors.items()})
    h = torch.tensor(tensors["t"]).view(LENGTH, HEADS, 4)
    if op == "layer_norm":
        truth = modeling("cohere").CohereLayerNorm((HEADS, 4), eps=1e-5).double()
        truth.weight.data = torch.tensor(tensors["w"])
        wanted = truth(h).detach().numpy() + tensors["b"]
    else:
        wanted = torch.nn.functional.rms_norm(h, (4,), eps=1e-5).numpy() * tensors["w"]
    graph = f.graph()
    for kernels in ("fast", "reference"):
        (out,) = Engine(graph, reader, "f32", kernels).session().step([np.arange(LENGTH)])
        assert np.allclose(out, wanted.reshape(LENGTH, 24), atol=5e-6)
