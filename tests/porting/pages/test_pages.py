# SPDX-License-Identifier: Apache-2.0
"""Every page has the one frame: nothing from elsewhere, readable from a phone's width, whole without its script."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.matrix.status import HEADS, Status, as_html
from porting.report.model import Verdict
from porting.report.page import render_html
from sohu.commands.cli import main
from tests.conftest import TESTS
from tests.porting.report.sample_report import sample_report
from tests.porting.report.test_report import HOSTILE, SPEC, Page

PORT = TESTS.parent / "model_zoo" / "ports" / "llama-3.1-8b.sohu"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE = 360
# What tells the width that a page takes in a frame of a phone's width; the frame is of the same origin.
PROBE = """<!doctype html><iframe style="border:0;width:{width}px;height:640px" srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
  document.body.dataset.width = document.querySelector("iframe").contentDocument.scrollingElement.scrollWidth;
}});</script>"""


def status_page(name: str = "laguna") -> str:
    row = (name, "defaults", name, "fail", *("1",) * (len(HEADS) - 4))
    facts = (("longest family", f"95 lines ({name})"), ("transformers", "5.23.0"))
    missing = ((f"lacks {name}", (f"{name}2",)),)
    return as_html(Status(2, 1, facts, (row,), ((name, "why " * 90),), missing, ((name, "no"),)))


def command_page(folder: Path, command: str, *arguments: str) -> str:
    page = folder / f"{command}.html"
    main([command, str(PORT), "--device", "h100", *arguments, "--html", str(page)])
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    return {
        "report": render_html(sample_report(Verdict.FAIL), SPEC),
        "profile": command_page(folder, "profile", "--seq", "64"),
        "sweep": command_page(
            folder, "sweep", "--vary", "batch=1,64,4096", "--vary", "context=64,8192"
        ),
        "status": status_page(),
    }


KINDS = ("report", "profile", "sweep", "status")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_the_frame_and_nothing_from_elsewhere(pages: dict[str, str], kind: str) -> None:
    page = Page(pages[kind])
    tags = [tag for tag, _ in page.elements]
    for tag in ("header", "h1", "nav", "main", "footer"):
        assert tags.count(tag) == 1, tag
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object"}
        assert not {"src", "srcset", "action", "onclick", "onload"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
        if tag == "svg":
            assert attributes.get("viewbox")
    metas = [attributes for tag, attributes in page.elements if tag == "meta"]
    assert any(m.get("content") == "width=device-width, initial-scale=1" for m in metas)
    policy = next(m for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert not re.search(r"@import|url\(", pages[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_links_of_a_page_lead_somewhere(pages: dict[str, str], kind: str) -> None:
    page = Page(pages[kind])
    names = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(names) == len(set(names))
    for _, attributes in page.elements:
        target = attributes.get("href")
        assert target is None or target.removeprefix("#") in names, target


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_no_wider_than_a_phone(pages: dict[str, str], kind: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium here")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=PHONE, page=html.escape(pages[kind])), encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}", probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    width = re.search(r'data-width="(\d+)"', done.stdout)
    assert width is not None
    assert 0 < int(width[1]) <= PHONE
    assert "CONSOLE" not in done.stderr


@pytest.mark.parametrize("make", [status_page])
def test_hostile_names_are_text(make: Callable[[str], str]) -> None:
    text = make(HOSTILE)
    assert HOSTILE not in text
    assert "<img" not in text
    assert HOSTILE in Page(text).text


def test_what_is_missing_comes_first_and_each_type_has_a_place() -> None:
    text = status_page()
    places = [text.index(f'id="{name}"') for name in ("problems", "missing", "apart", "covered")]
    assert places == sorted(places)
    assert 'id="type-laguna"' in text
    assert 'id="type-laguna2"' in text
    assert "<b>95 lines</b>" in text
