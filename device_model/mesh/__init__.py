# SPDX-License-Identifier: Apache-2.0
"""Many chips: what they exchange, and how it gets from one to another."""
