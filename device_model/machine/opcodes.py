"""Numbers of the machine's instructions, shared by those who emit and those who execute."""

from __future__ import annotations

CONVERT = 1
GATHER = 2
SELECT = 3
MATMUL = 4
NORM = 5
ROPE = 6
APPEND = 7
ATTENTION = 8
BINARY = 9
UNARY = 10
COLUMNS = 11
CAUSAL_CONV = 12
LINEAR_ATTENTION = 13
ROUTE = 14
EXPERT_MATMUL = 15
COMBINE = 16
SCALE_ROWS = 17
REDUCE = 18
EXPERT_FINISH = 19
QUANTISE = 20
QUANTISED_MATMUL = 21
