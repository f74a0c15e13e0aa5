# SPDX-License-Identifier: Apache-2.0
"""The profile of a program on a chip: its numbers, and their forms as text, JSON, a trace and a page."""
