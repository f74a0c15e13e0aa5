# SPDX-License-Identifier: Apache-2.0
"""A graph's bytes and work as formulas."""
