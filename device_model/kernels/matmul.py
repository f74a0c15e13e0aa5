# SPDX-License-Identifier: Apache-2.0
"""Products of rows with a weight, and of each row with its expert: which rows are computed together, and by what.

Nothing here multiplies: many rows in bfloat16 go to `paired` where the processor allows, all others to `product`.
"""

from __future__ import annotations

from device_model.machine import paired, product
from device_model.machine.deferred import compiled
from device_model.machine.elementary import integers, read, size_of, words
from device_model.machine.product import FEW_ROWS, clear, columns_of, even, row_limit, working
from device_model.machine.vectors import F32
from device_model.program.instruction import Instruction

NUMBERS_BYTES = 8 * max(paired.BLOCK_ROWS, product.BLOCK_ROWS) // 64 * 64 + 64


def scratch_bytes(k: int) -> int:
    """Return the scratch memory of a product: row numbers, and what either kind of product needs."""
    return NUMBERS_BYTES + max(paired.scratch_bytes(k), product.scratch_bytes(k))


@compiled
def _block(
    x: int, x_kind: int, repeats: int, count: int, in_place: int, w: int, kind: int, scales: int,
    block_rows: int, block_columns: int, table: int, rounds: int, leaves: int, out: int,
    out_kind: int, n: int, k: int, first: int, last: int, by_pairs: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply the rows whose numbers lie in scratch; `repeats` of them share a row of x."""
    numbers, rest = integers(scratch, count), scratch + NUMBERS_BYTES
    if by_pairs and count > FEW_ROWS:
        paired.paired(
            x, repeats, count, scratch, w, kind, scales, block_rows, block_columns, table, rounds,
            leaves, out, out_kind, n, k, first, last, rest,
        )  # fmt: skip
        return
    source = x + numbers[0] * k * 4
    if not in_place:
        source = rest + working(count, k)
        for r in range(count):
            row = x + numbers[r] // repeats * k * size_of(x_kind)
            read(row, x_kind, source + r * k * 4, k)
    product.product(
        source, count, scratch, w, kind, scales, block_rows, block_columns, table, rounds, leaves,
        out, out_kind, n, k, first, last, rest,
    )  # fmt: skip


@compiled
def matmul(
    x: int, x_kind: int, w: int, kind: int, scales: int, block_rows: int, block_columns: int,
    table: int, rounds: int, leaves: int, out: int, out_kind: int, rows: int, n: int, k: int,
    pairs: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Compute this part's columns of out[rows, n] = x[rows, k] times w[n, k], as `kind` stores it."""
    first, last = columns_of(n, part, parts)
    by_pairs = paired.takes(pairs, x_kind, kind, rounds)
    block = even(rows, paired.row_limit(k) if by_pairs else row_limit(k))
    numbers = integers(scratch, block)
    for top in range(0, rows, block):
        count = min(block, rows - top)
        for r in range(count):
            numbers[r] = top + r
        _block(
            x, x_kind, 1, count, x_kind == F32, w, kind, scales, block_rows, block_columns, table,
            rounds, leaves, out, out_kind, n, k, first, last, by_pairs, scratch,
        )  # fmt: skip


MATMUL = Instruction.of("matmul", matmul)


@compiled
def expert_matmul(
    x: int, x_kind: int, repeats: int, choice: int, w: int, kind: int, entry: int, scales: int,
    scales_entry: int, block_rows: int, block_columns: int, table: int, rounds: int, leaves: int,
    first_expert: int, out: int, out_kind: int, rows: int, experts: int, n: int, k: int,
    pairs: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Compute this part's columns of out[rows, n] = x[rows / repeats, k] times w[choice[rows] - first_expert, n, k].

    A row that names none of these experts gives zeros.
    `entry` and `scales_entry` are the bytes of one expert's weight and scales.
    """
    first, last = columns_of(n, part, parts)
    by_pairs = paired.takes(pairs, x_kind, kind, rounds)
    block = paired.row_limit(k) if by_pairs else row_limit(k)
    numbers, chosen = integers(scratch, block), words(choice, rows)
    for row in range(rows):
        if chosen[row] < first_expert or chosen[row] >= first_expert + experts:
            clear(out + (row * n + first) * size_of(out_kind), (last - first) * size_of(out_kind))
    for expert in range(experts):
        count = 0
        for row in range(rows):
            if chosen[row] == first_expert + expert:
                numbers[count] = row
                count += 1
            if count == block or (row == rows - 1 and count > 0):
                _block(
                    x, x_kind, repeats, count, False, w + expert * entry, kind,
                    scales + expert * scales_entry, block_rows, block_columns, table, rounds,
                    leaves, out, out_kind, n, k, first, last, by_pairs, scratch,
                )  # fmt: skip
                count = 0


EXPERT_MATMUL = Instruction.of("expert_matmul", expert_matmul)
