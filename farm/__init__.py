# SPDX-License-Identifier: Apache-2.0
"""The conformance farm: tiny random oracles of every causal type of transformers, the matrix of ports, the mutants.

`python -m farm COMMAND`. `oracles` makes and shows tiny checkpoints, `matrix` ports and judges them, `mutants` measures
the judge.
"""
