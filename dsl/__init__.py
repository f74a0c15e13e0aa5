# SPDX-License-Identifier: Apache-2.0
"""The language: text to syntax tree to typed graph, with shapes, sharding and footprints."""
