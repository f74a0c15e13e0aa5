# SPDX-License-Identifier: Apache-2.0
"""Small graphs written by hand: what the device model's tests run.

Types are as precise as the device needs (shapes and formats), not as the checker would infer them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

from device_model.numbers.numerics import Array
from dsl.graph import (
    Attr,
    Body,
    Graph,
    LayerClass,
    Node,
    Output,
    Repeat,
    State,
    TensorRef,
    Value,
    Weight,
    WeightSource,
)
from dsl.graph import Step as GraphStep
from dsl.ops import OPS
from dsl.source import Source, Span
from dsl.symbolic import Dim, opaque, symbol
from dsl.types import DTYPES, Axis, TensorType

SPAN = Span(Source("test", ""), 0, 0)
B, S, C = symbol("B"), symbol("S"), symbol("C")


def tensor(dtype: str, *dims: Dim) -> TensorType:
    """Return a type without sharding."""
    return TensorType(DTYPES[dtype], tuple(Axis(dim) for dim in dims))


def operands(op: str, count: int) -> tuple[str, ...]:
    """Return the names of the first `count` value parameters of an operation."""
    values = [p for p in OPS[op].params if p.role.is_value]
    return tuple(values[min(i, len(values) - 1)].name for i in range(count))


@dataclass
class Flow:
    """Collects the parts of a graph; `scope` opens a layer's body."""

    dtype: str = "bf16"
    values: list[Value] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    weights: list[list[Weight]] = field(default_factory=lambda: [[]])
    states: list[list[State]] = field(default_factory=lambda: [[]])
    config: dict[str, Attr] = field(default_factory=dict)
    steps: list[list[GraphStep]] = field(default_factory=lambda: [[]])
    outputs: list[Output] = field(default_factory=list)

    def value(self, type: TensorType, name: str = "") -> int:
        """Add a value."""
        number = len(self.values)
        self.values.append(Value(number, name or f"v{number}", type, SPAN))
        return number

    def input(self, dtype: str = "i32", *dims: Dim) -> int:
        """Add an input of [B, S, ...]."""
        number = self.value(tensor(dtype, B, S, *dims), "tokens")
        self.inputs.append(self.values[number])
        return number

    def weight(
        self, name: str, *dims: int, dtype: str = "", source: WeightSource | None = None
    ) -> int:
        """Add a weight to the open body."""
        shape = tensor(dtype or self.dtype, *dims)
        number = self.value(shape, name)
        origin = source or TensorRef(name, SPAN)
        self.weights[-1].append(Weight(number, name, shape, origin, SPAN))
        return number

    def state(self, *dims: Dim, dtype: str = "") -> int:
        """Add a state to the open body."""
        shape = tensor(dtype or self.dtype, *dims)
        number = self.value(shape)
        self.states[-1].append(State(number, "state", shape, SPAN))
        return number

    def op(self, name: str, inputs: tuple[int, ...], *shape: Dim, **attrs: Attr) -> int:
        """Add an operation with one output of [B, S, ...] or, for heads, of the dims given."""
        return self.ops(name, inputs, shape, **attrs)[0]

    def ops(
        self, name: str, inputs: tuple[int, ...], *shapes: tuple[Dim, ...], **attrs: Attr
    ) -> tuple[int, ...]:
        """Add an operation with several outputs."""
        outputs = tuple(self.value(tensor(self.dtype, *dims)) for dims in shapes)
        self.steps[-1].append(
            Node(name, inputs, outputs, attrs, SPAN, operands=operands(name, len(inputs)))
        )
        return outputs

    def open(self) -> None:
        """Open a layer's body."""
        for part in (self.weights, self.states, self.steps):
            part.append([])  # type: ignore[attr-defined]

    def close(self) -> Body:
        """Close the innermost body."""
        return Body(tuple(self.weights.pop()), tuple(self.states.pop()), tuple(self.steps.pop()))

    def repeat(
        self,
        bodies: tuple[tuple[Body, int, int, tuple[int, ...]], ...],
        initial: int,
        type: TensorType,
    ) -> int:
        """Add layers: each class is a body, its carried value in and out, and its layers."""
        result = self.value(type)
        classes = tuple(
            LayerClass(body, (entering,), (leaving,), layers)
            for body, entering, leaving, layers in bodies
        )
        count = sum(len(cls.layers) for cls in classes)
        self.steps[-1].append(Repeat("i", count, classes, (initial,), (result,), ("x",), SPAN))
        return result

    def output(self, value: int, name: str = "logits") -> None:
        """Name a result."""
        self.outputs.append(Output(name, value, self.values[value].type, SPAN))

    def graph(self) -> Graph:
        """Return the program."""
        return Graph(
            family="test",
            architectures=(),
            batch="B",
            seq="S",
            context="C",
            mesh=(),
            config=self.config,
            inputs=tuple(self.inputs),
            body=self.close(),
            outputs=tuple(self.outputs),
            values=tuple(self.values),
            obligations=(),
        )


@dataclass(frozen=True)
class Llama:
    """The sizes of a small decoder; every one different."""

    D: int = 40
    F: int = 56
    H: int = 6
    K: int = 2
    E: int = 16
    V: int = 88
    L: int = 3
    theta: float = 10000.0
    eps: float = 1e-5
    window: int = 0
    ring: int = 0
    softcap: float = 0.0
    pairing: str = "half"
    qk_norm: bool = False
    dtype: str = "bf16"
    long: tuple[float, ...] = ()
    growth: float = 0.0
    original: float = 0.0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor."""
        sizes: dict[str, tuple[int, ...]] = {"embed": (self.V, self.D), "norm": (self.D,)}
        for i in range(self.L):
            sizes |= {
                f"{i}.norm1": (self.D,), f"{i}.norm2": (self.D,),
                f"{i}.q": (self.H * self.E, self.D), f"{i}.k": (self.K * self.E, self.D),
                f"{i}.v": (self.K * self.E, self.D), f"{i}.o": (self.D, self.H * self.E),
                f"{i}.gate": (self.F, self.D), f"{i}.up": (self.F, self.D),
                f"{i}.down": (self.D, self.F), f"{i}.qn": (self.E,),
            }  # fmt: skip
        return sizes

    def weights(self, seed: int = 0) -> dict[str, Array]:
        """Return random tensors in the stored format."""
        generator = np.random.default_rng(seed)
        dtype = np.float32 if self.dtype == "f32" else ml_dtypes.bfloat16
        return {
            name: (
                generator.normal(size=dims) * (dims[-1] ** -0.5 if len(dims) > 1 else 0.1)
                + (len(dims) == 1)
            ).astype(np.float32).astype(dtype)
            for name, dims in self.shapes().items()
        }  # fmt: skip

    def graph(self) -> Graph:
        """Return the program."""
        f = Flow(self.dtype)
        tokens = f.input()
        embed = f.weight("embed", self.V, self.D)
        x = f.op("gather", (embed, tokens), B, S, self.D)
        freqs = f.ops("rope_frequencies", (), (self.E // 2,), width=self.E, theta=self.theta)[0]
        tables = [freqs]
        if self.long:
            factors: dict[str, Attr] = {"theta": self.theta, "factors": self.long}
            tables += f.ops("rope_frequencies", (), (self.E // 2,), width=self.E, **factors)
        f.open()
        entering = f.value(tensor(self.dtype, B, S, self.D))
        leaving = self._layer(f, entering, tuple(tables))
        body = f.close()
        x = f.repeat(
            ((body, entering, leaving, tuple(range(self.L))),), x, tensor(self.dtype, B, S, self.D)
        )
        norm = f.weight("norm", self.D)
        x = f.op("rms_norm", (x, norm), B, S, self.D, eps=self.eps)
        f.output(f.op("matmul", (x, embed), B, S, self.V, dtype=DTYPES["f32"]))
        return f.graph()

    def _layer(self, f: Flow, x: int, freqs: tuple[int, ...]) -> int:
        norm1 = f.weight("{i}.norm1", self.D)
        h = f.op("rms_norm", (x, norm1), B, S, self.D, eps=self.eps)
        q, k, v = (self._heads(f, h, name) for name in "qkv")
        if self.qk_norm:
            w = f.weight("{i}.qn", self.E)
            q = f.op("rms_norm", (q, w), B, self.H, S, self.E, eps=self.eps, offset=1.0)
        rope: dict[str, Attr] = {"at": C, "scale": 1.0, "pairing": self.pairing}
        rope |= {"original": self.original, "growth": self.growth} if self.original else {}
        q = f.op("rope", (q, *freqs), B, self.H, S, self.E, **rope)
        k = f.op("rope", (k, *freqs), B, self.K, S, self.E, **rope)
        kept = opaque("min", C, self.ring) if self.ring else C
        keys, values = f.state(B, self.K, kept, self.E), f.state(B, self.K, kept, self.E)
        k = f.op("append", (keys, k), B, self.K, kept + S, self.E)
        v = f.op("append", (values, v), B, self.K, kept + S, self.E)
        a = f.op(
            "attention", (q, k, v), B, self.H, S, self.E, mask="causal", scale=self.E**-0.5,
            window=self.window, softcap=self.softcap,
        )  # fmt: skip
        a = f.op("merge", (a,), B, S, self.H * self.E)
        o = f.op("matmul", (a, f.weight("{i}.o", self.D, self.H * self.E)), B, S, self.D)
        x = f.op("add", (x, f.op("all_reduce", (o,), B, S, self.D, axes=("tp",))), B, S, self.D)
        h = f.op("rms_norm", (x, f.weight("{i}.norm2", self.D)), B, S, self.D, eps=self.eps)
        gate = f.op("matmul", (h, f.weight("{i}.gate", self.F, self.D)), B, S, self.F)
        up = f.op("matmul", (h, f.weight("{i}.up", self.F, self.D)), B, S, self.F)
        m = f.op("multiply", (f.op("silu", (gate,), B, S, self.F), up), B, S, self.F)
        m = f.op("matmul", (m, f.weight("{i}.down", self.D, self.F)), B, S, self.D)
        return f.op("add", (x, m), B, S, self.D)

    def _heads(self, f: Flow, h: int, name: str) -> int:
        count = self.H if name == "q" else self.K
        w = f.weight(f"{{i}}.{name}", count * self.E, self.D)
        flat = f.op("matmul", (h, w), B, S, count * self.E)
        return f.op("heads", (flat,), B, count, S, self.E, count=count)


def oracle(m: Llama, weights: Mapping[str, Array], tokens: Array) -> Array:
    """Return the logits of one sequence by the textbook formulas in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    x = w["embed"][tokens]
    length = len(tokens)
    for i in range(m.L):
        h = _norm(x, m.eps) * w[f"{i}.norm1"]
        q = (h @ w[f"{i}.q"].T).reshape(length, m.H, m.E)
        k = (h @ w[f"{i}.k"].T).reshape(length, m.K, m.E)
        v = (h @ w[f"{i}.v"].T).reshape(length, m.K, m.E)
        if m.qk_norm:
            q = _norm(q, m.eps) * (1.0 + w[f"{i}.qn"])
        q, k = _rotate(m, q), _rotate(m, k)
        a = np.zeros((length, m.H, m.E))
        for t in range(length):
            first = max(0, t + 1 - m.window) if m.window else 0
            for head in range(m.H):
                kv = head // (m.H // m.K)
                s = k[first : t + 1, kv] @ q[t, head] * m.E**-0.5
                s = m.softcap * np.tanh(s / m.softcap) if m.softcap else s
                p = np.exp(s - s.max())
                a[t, head] = (p / p.sum()) @ v[first : t + 1, kv]
        x = x + a.reshape(length, -1) @ w[f"{i}.o"].T
        h = _norm(x, m.eps) * w[f"{i}.norm2"]
        g = h @ w[f"{i}.gate"].T
        x = x + (g / (1 + np.exp(-g)) * (h @ w[f"{i}.up"].T)) @ w[f"{i}.down"].T
    result: Array = (_norm(x, m.eps) * w["norm"]) @ w["embed"].T
    return result


def _norm(x: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + eps))


def _rotate(m: Llama, x: Array) -> Array:
    theta, factors = m.theta, np.ones(m.E // 2)
    if m.original and len(x) > m.original:
        theta *= (m.growth * len(x) / m.original - m.growth + 1) ** (m.E / (m.E - 2))
        factors = np.array(m.long) if m.long else factors
    angle = np.arange(len(x))[:, None] * (theta ** (-np.arange(0, m.E, 2) / m.E) / factors)[None]
    turn = np.exp(1j * angle)[:, None]
    if m.pairing == "half":
        z = (x[..., : m.E // 2] + 1j * x[..., m.E // 2 :]) * turn
        return np.concatenate([z.real, z.imag], -1)
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
    return np.stack([z.real, z.imag], -1).reshape(x.shape)
