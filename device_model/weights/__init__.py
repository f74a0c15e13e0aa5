# SPDX-License-Identifier: Apache-2.0
"""Tensors of a checkpoint as the places that operations read."""
