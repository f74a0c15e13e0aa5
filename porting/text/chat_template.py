# SPDX-License-Identifier: Apache-2.0
"""Render a model's chat template, which is a program from a stranger: sandboxed, in a child with limits.

Decides nothing about tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from dsl.diagnostics import Refused, refuse
from porting.files.strict_json import shown
from porting.text.limited_child import ChildError, LimitedChild

MAX_TEMPLATE = 262_144
MAX_TEXT = 4 * 2**20
MAX_REASON = 200


def render(template: str, variables: Mapping[str, object], child: LimitedChild) -> str:
    """Return the text that a template makes of its variables; raises `Refused` where it makes none."""
    if len(template) > MAX_TEMPLATE:
        raise _refused(f"has {len(template):,} characters; at most {MAX_TEMPLATE:,} are read")
    try:
        body = template.encode()
        return str(child.ask("render", body, variables=dict(variables), max_characters=MAX_TEXT))
    except UnicodeEncodeError as error:
        raise _refused("has half of a surrogate pair, which is no character") from error
    except ChildError as error:
        raise _refused(shown(str(error), MAX_REASON)) from error


def _refused(fact: str) -> Refused:
    return refuse("S542", f"the chat template {fact}", place="chat_template")
