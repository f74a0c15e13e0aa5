# SPDX-License-Identifier: Apache-2.0
"""Syntax to a typed graph."""
