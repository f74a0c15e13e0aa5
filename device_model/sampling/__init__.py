# SPDX-License-Identifier: Apache-2.0
"""Choosing tokens from logits: what may be drawn, and the draws, which are functions of a seed and a position."""
