# SPDX-License-Identifier: Apache-2.0
"""Write a port into a directory: the text, the report as JSON, the page for people.

Composes nothing itself: `model` makes the JSON, `page` the page.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from porting.files.atomic import replace_directory
from porting.report.model import HTML_NAME, JSON_NAME, SPEC_NAME, Report, to_json
from porting.report.page import render_html
from porting.report.reading import digest_of


def write(directory: Path, spec_text: str, report: Report) -> None:
    """Write spec, report and page into a directory: all three or none. The report gets the text's digest.

    Other files there stay as they are. Raises `OSError` where the directory cannot be written, and has then changed
    nothing.
    """
    report = replace(report, text_sha256=digest_of(spec_text.encode()))
    texts = {
        SPEC_NAME: spec_text,
        HTML_NAME: render_html(report, spec_text),
        JSON_NAME: to_json(report),  # last: it has the digest of the text
    }
    replace_directory(directory, {name: text.encode() for name, text in texts.items()})
