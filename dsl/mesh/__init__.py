# SPDX-License-Identifier: Apache-2.0
"""Where a mesh cuts a bound program: which axes are cut together, into which parts, and how cut sums are added."""
