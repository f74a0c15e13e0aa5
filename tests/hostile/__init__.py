# SPDX-License-Identifier: Apache-2.0
"""Hostile inputs: mutations of small valid files and named traps, each within limits. See `generator` and `guard`."""
