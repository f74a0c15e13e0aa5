# SPDX-License-Identifier: Apache-2.0
"""Nodes that differ in one bit of anything are refused, and what differs is named."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from device_model.mesh.fabric import Array
from device_model.mesh.handshake import (
    NAMES,
    Facts,
    agreed,
    as_told,
    digest,
    digest_of_arrays,
    from_told,
)
from dsl.diagnostics import Refused

FACTS = Facts(*(digest(name.encode()) for name in NAMES))


def test_nodes_that_are_alike_agree():
    assert agreed({0: FACTS, 3: FACTS}) == FACTS
    assert from_told(as_told(FACTS)) == FACTS


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_of_every_digest_counts(name: str):
    text = int(getattr(FACTS, name), 16)
    for bit in range(256):
        other = replace(FACTS, **{name: f"{text ^ 1 << bit:064x}"})
        with pytest.raises(Refused, match=f"S645: {name} of node 2 is not that of node 0"):
            agreed({2: other, 0: FACTS, 1: FACTS})


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8])
def test_every_bit_of_a_weight_counts(dtype: type):
    data = np.arange(24, dtype=np.uint8)

    def weights(raw: Array) -> str:
        return digest_of_arrays([("a", raw[:8].view(dtype)), ("b", raw[8:].view(dtype))])

    digests = {weights(data)}
    for bit in range(8 * len(data)):
        other = data.copy()
        other[bit // 8] ^= 1 << bit % 8
        digests.add(weights(other))
    assert len(digests) == 1 + 8 * len(data)


def test_names_shapes_types_and_borders_count():
    rows = np.zeros((2, 3), np.float32)
    digests = [
        digest_of_arrays([("a", rows)]),
        digest_of_arrays([("b", rows)]),
        digest_of_arrays([("a", rows.reshape(3, 2))]),
        digest_of_arrays([("a", rows.view(np.int32))]),
        digest_of_arrays([("a", rows[:1]), ("a", rows[1:])]),
        digest(b"ab", b"c"),
        digest(b"a", b"bc"),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of_arrays([("a", rows.T)]) == digest_of_arrays([("a", np.zeros((3, 2), "f4"))])


@pytest.mark.parametrize("told", [None, {}, {"graph": "0" * 64}, dict.fromkeys(NAMES, "0"), [1]])
def test_what_is_no_digest_is_refused(told: object):
    with pytest.raises(Refused, match="S645"):
        from_told(told)
