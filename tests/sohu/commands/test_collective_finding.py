# SPDX-License-Identifier: Apache-2.0
"""`sohu collective find`: what it says, that what it writes is proven, and what it does not take."""

import json

import pytest

from sohu.commands.cli import main

RING = ["--topology", "ring 4; link 90 GB/s, 1 us"]


def test_what_is_found_is_written_and_proven(tmp_path, capsys):
    out = str(tmp_path / "found.sohu")
    wanted = ["collective", "find", "all_gather", "--bytes", "1e9", *RING, "--out", out]
    assert main([*wanted, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["bound"]["cut"] == "into chip 0"
    assert data["bound"]["seconds"] == pytest.approx(0.75e9 / 180e9 + 1e-6)
    assert 0 <= data["excess"] < 0.01
    assert main(["collective", "check", out, "--json"]) == 0
    (checked,) = json.loads(capsys.readouterr().out)["collectives"]
    assert (checked["sends"], checked["peak"]) == (data["sends"], data["peak"])
    assert main(["collective", "time", out, "--bytes", "1e9", "--json"]) == 0
    (timed,) = json.loads(capsys.readouterr().out)["collectives"]
    assert timed["seconds"] == data["seconds"]


def test_sums_are_found_in_the_declared_order_unless_they_are_exact(capsys):
    wanted = ["collective", "find", "all_reduce", "--bytes", "1e6", *RING, "--json"]
    orders = []
    for options in ([], ["--exact"]):
        assert main([*wanted, *options]) == 0
        orders.append(json.loads(capsys.readouterr().out)["order"])
    assert orders == ["tree", "any"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("all_gathr --bytes 1e6", "S630"),
        ("all_gather --bytes 0", "S630"),
        ("all_gather", "S111"),
    ],
)
def test_what_is_not_taken(line, code, capsys):
    assert main(["collective", "find", *line.split(), *RING]) == 2
    assert code in capsys.readouterr().err


def test_a_bound_is_told_in_words(capsys):
    assert main(["collective", "find", "all_gather", "--bytes", "1e9", *RING]) == 0
    said = capsys.readouterr().out
    assert "from the bound" in said
    assert "into chip 0: 750,000,000 bytes at 180 GB/s, and 1 µs of latency" in said
