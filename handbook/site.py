# SPDX-License-Identifier: Apache-2.0
"""Build the site: Sphinx with MyST and Furo, its settings, the languages that our pages are written in.

The one module that knows Sphinx. Every warning is returned; nothing is fetched.
"""

from __future__ import annotations

import io
from pathlib import Path

from pygments.lexers import TextLexer
from sphinx.application import Sphinx

from porting.pages.lexer import SohuLexer

SETTINGS: dict[str, object] = {
    "project": "sohu",
    "root_doc": "index",
    "source_suffix": {".md": "markdown"},
    "extensions": ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"],
    "smartquotes": False,  # they would make dashes of options
    "exclude_patterns": ["files/**"],
    "nitpicky": True,
    # What our docstrings name from elsewhere has no page here, and pages elsewhere are not asked for.
    "nitpick_ignore_regex": [("py:.*", r"(?!sohu\.).*")],
    "myst_heading_anchors": 6,
    "default_role": "literal",  # docstrings write `name` as Markdown does
    "autodoc_member_order": "bysource",
    "autodoc_typehints": "signature",
    "autodoc_preserve_defaults": True,
    "add_module_names": False,
    "python_use_unqualified_type_names": True,
    "html_theme": "furo",
    "html_title": "sohu",
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "html_sourcelink_suffix": "",
    "html_theme_options": {"top_of_page_buttons": []},
    "copybutton_prompt_text": r">>> |\.\.\. |\$ ",
    "copybutton_prompt_is_regexp": True,
    "pygments_style": "default",
}
LEXERS = {"sohu": SohuLexer, "lark": TextLexer}


def build(source: Path, out: Path, memory: Path) -> str:
    """Build the pages of a folder as HTML into another; returns the warnings, which are faults."""
    warnings = io.StringIO()
    app = Sphinx(
        source,
        None,
        out,
        memory,
        "html",
        dict(SETTINGS),
        status=None,
        warning=warnings,
        freshenv=True,
    )
    for name, lexer in LEXERS.items():
        app.add_lexer(name, lexer)
    app.build(force_all=True)
    return warnings.getvalue()
