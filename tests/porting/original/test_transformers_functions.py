# SPDX-License-Identifier: Apache-2.0
"""Single functions of the device against the ones of transformers that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from device_model.kernels.rotary import frequencies
from tests.device_model.kernels.test_kernels import call

YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
ROPES: dict[str, dict[str, object]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"rope_type": "yarn", **YARN},
    "yarn, other bounds": {"rope_type": "yarn", "beta_fast": 5.0, "beta_slow": 0.3, **YARN},
    "yarn, bounds as they are": {"rope_type": "yarn", "truncate": False, **YARN},
    "yarn, bounds that meet": {"rope_type": "yarn", "beta_fast": 0.01, "beta_slow": 0.01, **YARN},
    "yarn of DeepSeek-V3": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    },
}


@pytest.mark.parametrize("width", [2, 6, 64, 128])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("kind", ROPES)
def test_rotary_frequencies(kind: str, theta: float, width: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = ROPES[kind] | {"rope_theta": theta}
    config = LlamaConfig(
        head_dim=width, max_position_embeddings=256, rope_parameters=dict(parameters)
    )
    attrs = {k: v for k, v in parameters.items() if k not in ("rope_type", "rope_theta")}
    attrs |= {"width": width, "theta": theta, "scaling": parameters["rope_type"]}
    expected, _ = ROPE_INIT_FUNCTIONS[str(parameters["rope_type"])](config, device="cpu")
    # transformers computes its table in float32.
    np.testing.assert_allclose(frequencies(attrs), expected.numpy(), rtol=2e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("groups", "kept"), [(1, 1), (4, 2), (6, 1), (3, 3)])
def test_experts_of_deepseek(groups: int, kept: int, normalize: bool) -> None:
    import torch
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    config = DeepseekV3Config(
        hidden_size=24,
        n_routed_experts=12,
        n_group=groups,
        topk_group=kept,
        num_experts_per_tok=2,
        norm_topk_prob=normalize,
        routed_scaling_factor=1.5,
    )
    router = DeepseekV3TopkRouter(config)
    generator = torch.Generator().manual_seed(groups)
    with torch.no_grad():
        router.weight.copy_(torch.randn(12, 24, generator=generator))
        router.e_score_correction_bias.copy_(torch.randn(12, generator=generator) * 0.2)
        logits, weights, indices = router(torch.randn(50, 24, generator=generator))
    choice, share = call(
        "route",
        logits.numpy(),
        router.e_score_correction_bias.numpy(),
        top=2,
        score="sigmoid",
        normalize=normalize,
        scale=1.5,
        groups=groups,
        top_groups=kept,
    )
    order = np.argsort(choice, axis=-1)
    expected = np.argsort(indices.numpy(), axis=-1)
    assert (np.sort(choice) == np.sort(indices.numpy())).all()
    np.testing.assert_allclose(
        np.take_along_axis(share, order, -1),
        np.take_along_axis(weights.numpy(), expected, -1),
        rtol=1e-5,
    )
