# SPDX-License-Identifier: Apache-2.0
"""What is right, decided without the verifier: sends one by one, with sums as nested expressions."""

from collections import Counter

from device_model.collectives.program import SUMS, Program
from device_model.collectives.topology import Topology


def declared(low: int, high: int):
    """Return the declared tree, the operands of each addition in order of their first rank."""
    if high - low == 1:
        return low
    middle = low + (high - low) // 2
    return (declared(low, middle), declared(middle, high))


def first(value) -> int:
    return value if isinstance(value, int) else min(first(value[0]), first(value[1]))


def ranks(value) -> Counter:
    return Counter([value]) if isinstance(value, int) else ranks(value[0]) + ranks(value[1])


def _nodes(value) -> set:
    return {value} if isinstance(value, int) else {value} | _nodes(value[0]) | _nodes(value[1])


def _meet(values: list, trees: set):
    """Return the sum of what meets at one place: siblings of the tree first, the rest from the left."""
    values = sorted(values, key=first)
    while True:
        pairs = [i for i in range(len(values) - 1) if (values[i], values[i + 1]) in trees]
        if not pairs:
            break
        i = pairs[0]
        values[i : i + 2] = [(values[i], values[i + 1])]
    total = values[0]
    for value in values[1:]:
        total = (total, value)
    return total


def _reaches(topology: Topology, source: int, target: int) -> bool:
    links = set(zip(topology.source.tolist(), topology.target.tolist(), strict=True))
    seen, todo = {source}, [source]
    while todo:
        here = todo.pop()
        for a, b in links:
            if a == here and b not in seen:
                seen.add(b)
                todo += [b] if b >= topology.chips else []
    return target in seen and target != source


def _asked(operation: str, n: int, chunks: int, chip: int, chunk: int) -> bool:
    if operation == "reduce_scatter":
        return chunk // (chunks // n) == chip
    if operation == "all_to_all":
        return chunk // (chunks // n // n) % n == chip
    return True


def _begins(operation: str, n: int, chunks: int, chip: int, chunk: int):
    if operation in SUMS:
        return chip
    origin = 0 if operation == "broadcast" else chunk // (chunks // n)
    return "here" if origin == chip else None


def right(program: Program) -> bool:
    """Return whether every send is possible and needed, and in the end everybody has what is asked for."""
    operation, n, chunks = program.operation, program.topology.chips, program.chunks
    sums, trees = operation in SUMS, _nodes(declared(0, n))
    exact = program.order == "any"

    def same(a, b) -> bool:
        if not sums:
            return a == b
        if exact:
            return ranks(a) == ranks(b) and max(ranks(a).values()) == 1
        return a == b and a in trees

    has = {(p, c): _begins(operation, n, chunks, p, c) for p in range(n) for c in range(chunks)}
    for step in program:
        come: dict[tuple[int, int], list] = {}
        for send in step:
            here, there = (send.source, send.chunk), (send.target, send.chunk)
            if has.get(here) is None or there not in has or (send.add and not sums):
                return False
            if not _reaches(program.topology, send.source, send.target):
                return False
            if not send.add and has[there] is not None and same(has[here], has[there]):
                return False
            come.setdefault(there, []).append((has[here], send.add))
        for place, values in come.items():
            if len(values) > 1 and not all(add for _, add in values):
                return False
            added = [v for v, add in values if add]
            has[place] = _meet([has[place], *added], trees) if added else values[0][0]
    wanted = {value for (p, c), value in has.items() if _asked(operation, n, chunks, p, c)}
    if not sums:
        return wanted == {"here"}
    if exact:
        return all(ranks(value) == Counter(range(n)) for value in wanted)
    return wanted == {declared(0, n)}
