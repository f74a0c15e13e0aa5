# SPDX-License-Identifier: Apache-2.0
"""How long checking takes as layers are added: `python -m benchmarks.check_layers`.

The cost should follow the number of layer classes. One family has equal layers, the other alternates between two kinds.
"""

from __future__ import annotations

import statistics
import time

from dsl.counting.footprint import footprint
from dsl.counting.liveness import peak_candidates
from dsl.inference.inference import infer
from porting.planning.library import family_for

REPEATS = 9
LAYERS = (8, 80, 800)
LLAMA: dict[str, object] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_parameters.rope_theta": 500000.0,
    "dtype": "bf16",
}


def milliseconds(architecture: str, values: dict[str, object]) -> tuple[int, float, float]:
    """Return the number of layer classes, and the medians of inferring and of counting."""
    program = family_for(architecture)
    inferring, counting = [], []
    classes = 0
    for _ in range(REPEATS):
        start = time.perf_counter()
        graph = infer(program.family(), program.blocks, values).graph
        middle = time.perf_counter()
        if graph is None:
            raise SystemExit(f"{architecture} does not infer")
        classes = len(footprint(graph).parts) - 1
        peak_candidates(graph)
        inferring.append(middle - start)
        counting.append(time.perf_counter() - middle)
    return classes, 1e3 * statistics.median(inferring), 1e3 * statistics.median(counting)


def main() -> None:
    """Print the table."""
    print(f"{'family':<24}{'layers':>8}{'classes':>9}{'infer ms':>10}{'count ms':>10}")
    for layers in LAYERS:
        values = LLAMA | {"num_hidden_layers": layers}
        classes, infer_ms, count_ms = milliseconds("LlamaForCausalLM", values)
        print(f"{'llama':<24}{layers:>8}{classes:>9}{infer_ms:>10.1f}{count_ms:>10.1f}")
    for layers in LAYERS:
        kinds = ["sliding_attention" if i % 6 != 5 else "full_attention" for i in range(layers)]
        values = LLAMA | {
            "num_hidden_layers": layers,
            "layer_types": kinds,
            "head_dim": 128,
            "sliding_window": 1024,
            "query_pre_attn_scalar": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "rope_parameters.full_attention.rope_theta": 1e6,
            "rope_parameters.sliding_attention.rope_theta": 1e4,
        }
        del values["rope_parameters.rope_theta"]
        classes, infer_ms, count_ms = milliseconds("Gemma3ForCausalLM", values)
        print(
            f"{'gemma3, alternating':<24}{layers:>8}{classes:>9}{infer_ms:>10.1f}{count_ms:>10.1f}"
        )


if __name__ == "__main__":
    main()
