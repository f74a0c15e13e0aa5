# SPDX-License-Identifier: Apache-2.0
"""Where groups lie, held to a count of chips one by one, and what a price makes of it."""

from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import pytest

from device_model.chips.chip import device
from device_model.cost.calibration import calibration
from device_model.timeline.kinds import CollectiveSizes, at_each, named
from device_model.timeline.places import Span, extent, order, place_words, spans, spread
from device_model.timeline.pricing import Prices
from device_model.timeline.tasks import Task
from porting.planning.bound import bound_graph
from tests.conftest import TESTS

AXES = ("tp", "ep", "pp", "dp")
H100 = Prices(device("h100"), "bf16", calibration(device("h100")))


def counted(sizes: dict[str, int], group: tuple[str, ...], domain: int) -> tuple[int, int]:
    """Count the most chips of a group in one domain, and its domains, where each domain is full."""
    others = [range(sizes[a]) if a not in group else range(1) for a in AXES]
    answers = set()
    for base in product(*others):
        chips = []
        for move in product(*(range(sizes[a]) if a in group else range(1) for a in AXES)):
            digits = [b + m for b, m in zip(base, move, strict=True)]
            strides = [prod(sizes[a] for a in AXES[:at]) for at in range(len(AXES))]
            chips.append(sum(d * s for d, s in zip(digits, strides, strict=True)))
        homes = [chip // domain for chip in chips]
        answers.add((max(map(homes.count, homes)), len(set(homes))))
    (answer,) = answers
    return answer


@pytest.mark.parametrize("domain", [1, 4, 8])
@pytest.mark.parametrize("group", [("tp",), ("ep",), ("tp", "ep"), ("pp",), ("tp", "dp")])
def test_a_group_lies_where_its_chips_are(group, domain):
    for values in product((1, 2, 4, 8), repeat=4):
        sizes = dict(zip(AXES, values, strict=True))
        lies = spread(spans(AXES, group, sizes), domain)
        assert (int(lies.inside), int(lies.domains)) == counted(sizes, group, domain)
        fits = extent(spans(AXES, group, sizes)) <= domain
        assert fits == (lies.domains == 1)


def test_what_fits_into_a_domain_is_not_split_over_two():
    tp, ep = spans(AXES, ("tp", "ep"), {"tp": 3, "ep": 4})
    inner, outer, both = (spread(group, 8) for group in ((tp,), (ep,), (tp, ep)))
    assert (inner.inside, inner.domains) == (3, 1)
    assert (outer.inside, outer.domains) == (2, 2)
    assert (both.inside, both.domains) == (6, 2)


def test_points_may_be_arrays():
    ep = np.asarray([[1.0], [8.0], [16.0]])
    group = spans(AXES, ("ep",), {"tp": 8, "ep": ep})
    domains = np.asarray([[8.0, 64.0]])
    assert spread(group, domains).domains.tolist() == [[1, 1], [8, 1], [16, 2]]
    sizes = CollectiveSizes(ep, 1e6, group)
    cut = at_each(sizes, lambda v: v[1:] if isinstance(v, np.ndarray) else v)
    assert cut.spans[0].size.tolist() == [[8], [16]]
    assert set(named(sizes)) == {"chips", "bytes"}


def test_axes_stand_in_an_order_whatever_the_text_says():
    graph = bound_graph(TESTS.parent / "model_zoo" / "ports" / "llama-3.1-8b.sohu")
    assert order(replace(graph, mesh=("pp", "dp", "ep", "tp"))) == ("tp", "ep", "pp", "dp")
    other = replace(graph, mesh=("batches", "other", "tp"), batch_shards=("batches",))
    assert order(other) == ("tp", "other", "batches")


def price(sizes: CollectiveSizes) -> float:
    return float(H100.of(Task("x", ("all_reduce",), sizes, 0.0, 0.0)).seconds)


def test_a_group_over_many_domains_is_dearer_than_one_inside():
    inside, apart = (CollectiveSizes(8.0, 1e8, (Span(8, stride),)) for stride in (1, 8))
    assert price(apart) > 5 * price(inside)
    whole = CollectiveSizes(64.0, 1e8, (Span(8, 1), Span(8, 8)))
    assert price(inside) < price(whole)


def test_as_many_sends_leave_a_domain_as_stages_say():
    near, mixed, far = (
        price(CollectiveSizes(2.0, 1e8, (Span(4, stride),), neighbours=True))
        for stride in (1, 4, 8)
    )
    assert near < mixed < far
    # Of the three sends between four stages on two domains one leaves.
    assert mixed == pytest.approx(near + (far - near) / 3)


def test_words_say_where_chips_are():
    def words(*group: Span, neighbours: bool = False) -> str:
        return place_words(group, 8.0, neighbours=neighbours)

    assert words(Span(1, 1)) == "one chip"
    assert words(Span(4, 2)) == "4 chips inside of one domain"
    assert words(Span(8, 1), Span(32, 8)) == "256 chips, 8 in each of 32 domains of 8"
    assert words(Span(8, 8)) == "8 chips, one in each of 8 domains of 8"
    assert (
        words(Span(4, 4), neighbours=True)
        == "sends between 4 stages, of which 1 of 3 leave a domain"
    )
