# SPDX-License-Identifier: Apache-2.0
"""`sohu profile`: time a program on a device."""

from __future__ import annotations

import argparse

from device_model.memory.use import Logits
from dsl.extras import require
from sohu.performance.profile.model import Profile, profile_of
from sohu.terminal import console

OK, FAILED = 0, 1


def profile(options: argparse.Namespace) -> int:
    """Time a decode step and a prefill, and show them in the forms that are asked for."""
    if options.trace is not None:
        require("perfetto")
    found = profile_of(
        options.path,
        options.device,
        options.numerics,
        mesh=options.mesh,
        batch=options.batch,
        seq=options.seq,
        context=options.context,
        skew=options.skew,
        host=options.host / 1e3,
        logits=Logits(options.logits),
        told=console.note,
    )
    _write(found, options)
    _show(found, options)
    return OK if found.fits else FAILED


def _write(found: Profile, options: argparse.Namespace) -> None:
    if options.trace is not None:
        from sohu.performance.profile.trace import write_trace  # noqa: PLC0415 - protobuf, for this alone

        write_trace(found, options.trace)
    if options.html is not None:
        from porting.planning.library import write_text  # noqa: PLC0415 - with the page alone
        from sohu.performance.profile.page import render_page  # noqa: PLC0415 - templates, for this alone

        write_text(options.html, render_page(found))


def _show(found: Profile, options: argparse.Namespace) -> None:
    if options.explain is not None:
        from sohu.performance.profile.explain import explained, show_explained  # noqa: PLC0415 - one form of several

        tasks = explained(found, options.explain)
        if options.json:
            from sohu.performance.profile.data import explained_as_dict  # noqa: PLC0415 - one form of several

            console.emit(explained_as_dict(found, tasks))
        else:
            show_explained(found, tasks)
        return
    if options.json:
        from sohu.performance.profile.data import as_dict  # noqa: PLC0415 - one form of several

        console.emit(as_dict(found))
        return
    from sohu.performance.profile.text import show  # noqa: PLC0415 - rich, for tables alone

    show(found)
    for path in (options.trace, options.html):
        if path is not None:
            console.say(path)
