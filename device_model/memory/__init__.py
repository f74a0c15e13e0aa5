# SPDX-License-Identifier: Apache-2.0
"""How many bytes a program takes on one chip."""
