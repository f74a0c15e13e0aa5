# SPDX-License-Identifier: Apache-2.0
"""What measures the harness: bugs seeded into graphs, config keys flipped, and what the rule notices."""
