# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints of transformers' causal types, and what they hold."""
