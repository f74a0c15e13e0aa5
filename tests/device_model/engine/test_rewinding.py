# SPDX-License-Identifier: Apache-2.0
"""A sequence that goes back: what follows has the bits of a fresh one, whatever its states are."""

from __future__ import annotations

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.weights.reading import ArrayReader
from tests.device_model.engine import test_renewing as renewing
from tests.device_model.graphs import B, Flow, Llama, S

LENGTH = 40
MODELS = {
    "keys and values": Llama(L=2),
    "ring": Llama(L=2, window=9, ring=8),
    "wide ring": Llama(L=2, window=60, ring=59),
    "renewed": renewing.LONG,
}
# Of forty tokens, back to so many; whether the states can.
BACK = [
    ("keys and values", 39, True), ("keys and values", 1, True), ("keys and values", 0, True),
    ("ring", 39, True), ("ring", 5, False), ("wide ring", 5, True),
    ("renewed", 39, False), ("renewed", 5, False),
]  # fmt: skip


def tokens(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, Llama.V, length)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize(("name", "length", "can"), BACK)
def test_what_follows_has_the_bits_of_a_fresh_sequence(
    name: str, length: int, can: bool, kernels: str
) -> None:
    model = MODELS[name]
    device = Engine(model.graph(), ArrayReader(model.weights()), "bf16", kernels)  # type: ignore[arg-type]
    row, other, new = tokens(LENGTH, 1), tokens(7, 2), tokens(30, 3)
    session = device.session(2)
    session.step([row[:17], other])
    session.step([row[17:], other[:0]])
    kept = session.rewind(0, length)
    assert kept == (length if can else 0)
    assert session.lengths == (kept, 7)
    after, beside = session.step([np.concatenate([row[kept:length], new]), other[:3]])
    fresh = device.session(2)
    expected, alone = fresh.step([np.concatenate([row[:length], new]), np.append(other, other[:3])])
    np.testing.assert_array_equal(after[-30:], expected[-30:])
    np.testing.assert_array_equal(beside, alone[-3:])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_states_of_fixed_size_begin_anew(kernels: str) -> None:
    f = Flow()
    x = f.op("gather", (f.weight("embed", Llama.V, 8), f.input()), B, S, 8)
    x = f.op("causal_conv", (f.state(B, 8, 2), x, f.weight("taps", 8, 3)), B, S, 8)
    f.output(x)
    held = {"embed": np.ones((Llama.V, 8)).cumsum(0), "taps": np.ones((8, 3)).cumsum(1)}
    arrays = {name: array.astype(np.float32) for name, array in held.items()}
    device = Engine(f.graph(), ArrayReader(arrays), "bf16", kernels)  # type: ignore[arg-type]
    session, row = device.session(), tokens(9, 1)
    session.step([row])
    assert session.rewind(0, 9) == 9
    assert session.rewind(0, 8) == 0
    np.testing.assert_array_equal(session.step([row])[0], device.session().step([row])[0])


def test_no_sequence_goes_forward() -> None:
    model = MODELS["keys and values"]
    device = Engine(model.graph(), ArrayReader(model.weights()), "bf16")  # type: ignore[arg-type]
    for length in (1, -1):
        with pytest.raises(ValueError, match="does not go back"):
            device.session().rewind(0, length)
