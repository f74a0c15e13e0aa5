# SPDX-License-Identifier: Apache-2.0
"""What a report proves is what its cases say, no more."""

from __future__ import annotations

from dataclasses import replace

from porting.report.model import (
    Case,
    CrossedLength,
    JudgedRow,
    MeshCase,
    ModelInfo,
    Report,
    Validation,
    Verdict,
)
from porting.report.proof import NEVER, proof, with_proof

AGREE = "the logits agree with transformers in float64"
PASSED = Case("prefill", "f32", 1e-7, 1e-5, True, tokens=99)
FAILED = Case("ragged batch", "bf16", 0.5, 0.1, False, reference=0.05, tokens=99)
REPORT = Report(
    Verdict.FAIL,
    ModelInfo("model"),
    validation=Validation(
        cases=(PASSED, FAILED),
        rows=(JudgedRow("sample 1", 48, {}),),
        lengths=(CrossedLength(32, "window", "original weights"), CrossedLength(4096, "rope", "")),
        original="transformers",
    ),
)


def test_what_passes_is_proven_and_what_fails_is_not() -> None:
    found = proof(REPORT)
    assert found.proven == (
        f"in f32 {AGREE}, within the rule's limit, in these modes: prefill; on 99 tokens",
        "across the lengths 32 (window), on original weights",
    )
    assert found.not_proven == (
        "ragged batch in bf16: FAILS, its error is 5.00e-01 and the limit 1.00e-01",
        "across the lengths 4,096 (rope): no row is as long",
        "contexts of more than 48 tokens, which is the longest row",
        "numerics other than f32, bf16",
        *NEVER,
    )


def test_meshes_are_proven_by_their_bits() -> None:
    meshes = (
        MeshCase("tp=2", "f32", "prefill", 99),
        MeshCase("tp=2", "f32", "ragged batch", 99, "sample 1 from token 3 on, by up to 1.0e-06"),
    )
    found = proof(replace(REPORT, validation=replace(REPORT.validation, meshes=meshes)))
    same = "on a mesh of tp=2 the logits have the same bits as on one chip, in prefill in f32"
    other = "ragged batch in f32 on a mesh of tp=2: FAILS, other bits than one chip: sample 1 from token 3"
    assert same in found.proven
    assert [line for line in found.not_proven if line.startswith(other)]


def test_a_plan_proves_nothing() -> None:
    planned = replace(REPORT, verdict=Verdict.PLANNED, validation=Validation())
    assert proof(planned).proven == ()
    assert "nothing was judged" in proof(planned).not_proven[0]


def test_the_report_itself_is_unchanged() -> None:
    data = with_proof(REPORT)
    assert {key: value for key, value in data.items() if key != "proof"} == REPORT.to_dict()
