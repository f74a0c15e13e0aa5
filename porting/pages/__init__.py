# SPDX-License-Identifier: Apache-2.0
"""The frame of every page, and a text with its colours."""
