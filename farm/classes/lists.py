# SPDX-License-Identifier: Apache-2.0
"""Find the lists that a config class makes from the number of layers, as a head, a cycle and a last item.

A list that follows no such rule, or is another where a model has other sizes than layers, is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from porting.config.class_rules import ListRule

COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
MOST = 40
FEWEST = 4
USUAL = 12
MAX_HEAD = 8
MAX_CYCLE = 12
TRIED = (2, 3, True, False)

Data = dict[str, Any]


def lists_of(known: Any, fields: Mapping[str, Any], read: Collection[str]) -> Data:
    """Return the lists of a class, by key, and the key that counts its layers; nothing where it has none.

    `inputs` are other keys that a list depends on: where a file has one, the rule does not hold.
    """
    count = next((key for key in COUNTS if key in fields), None)
    usual = {} if count is None else _lists(known, **{count: USUAL})
    names = [key for key in usual if fields.get(key, 0) is None]
    if count is None or not names:
        return {}
    by_layers = [_lists(known, **{count: n}) for n in range(FEWEST, MOST + 1)]
    rows: Data = {}
    for name in names:
        rule = _rule([made.get(name) for made in by_layers])
        if rule is not None:
            rows[name] = rule
    if not rows:
        return {}
    others = sorted((set(fields) | set(read)) - {count, *rows})
    for other in others:
        for name in _moved(known, count, other, usual, rows):
            rows[name].setdefault("inputs", []).append(other)
    return {"layers": count, "lists": dict(sorted(rows.items()))}


def _lists(known: Any, **keys: Any) -> dict[str, list[Any]]:
    try:
        made = vars(known(**keys))
    except Exception:  # noqa: BLE001 - a class may refuse what is tried on it
        return {}
    return {key: list(v) for key, v in made.items() if isinstance(v, list | tuple) and v}


def _moved(
    known: Any, count: str, other: str, usual: Mapping[str, list[Any]], rows: Iterable[str]
) -> list[str]:
    """Return the lists that another key changes."""
    made = [_lists(known, **{count: USUAL, other: value}) for value in TRIED]
    return [name for name in rows if any(m and m.get(name) != usual[name] for m in made)]


def _rule(lists: list[list[Any] | None]) -> Data | None:
    """Return how lists for more and more layers go on."""
    whole = [items for items in lists if items is not None]
    longest = whole[-1]
    if len(whole) != len(lists) or any(not isinstance(x, str | int) for x in longest):
        return None
    if all(items == longest for items in whole):
        return {"constant": longest}
    if any(len(items) != n for n, items in enumerate(whole, FEWEST)):
        return None
    body = longest[:-1]
    if any(items[:-1] != body[: len(items) - 1] for items in whole):
        return None
    period = _period(body)
    if period is None:
        return None
    head, cycle = period
    rule: Data = {"head": head, "cycle": cycle}
    if all(_made(head, cycle, len(items))[-1] == items[-1] for items in whole):
        return rule
    lasts = {items[-1] for items in whole}
    return {**rule, "last": lasts.pop()} if len(lasts) == 1 else None


def _made(head: list[Any], cycle: list[Any], layers: int) -> list[Any]:
    return ListRule(head=tuple(head), cycle=tuple(cycle)).made(layers)


def _period(body: list[Any]) -> tuple[list[Any], list[Any]] | None:
    for start in range(MAX_HEAD + 1):
        for length in range(1, MAX_CYCLE + 1):
            head, cycle = body[:start], body[start : start + length]
            if _made(head, cycle, len(body)) == body:
                return head, cycle
    return None
