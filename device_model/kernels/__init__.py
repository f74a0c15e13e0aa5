# SPDX-License-Identifier: Apache-2.0
"""What each operation computes: a plain-numpy meaning and, where it pays, a compiled twin."""
