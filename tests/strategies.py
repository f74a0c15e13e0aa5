# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: texts of the language that follow its grammar, in any layout.

A text is drawn with a mark at every place where white space or a comment may stand; `laid_out` fills the marks.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

GAP, LINE = "\x00", "\x01"
# Names that trap careless implementations: sympy's own objects, Python's keywords and attributes, near-keywords.
NAMES = (
    *("S", "N", "E", "I", "Q", "O", "C", "B", "D", "H", "beta", "gamma", "zeta", "pi", "lambda", "None"),
    *("__class__", "__init__", "x", "h1", "keys", "inputs", "stateful", "repeated", "iff", "trueish"),
    *("stack", "transpose", "rows", "i", "_unused", "a_rather_long_name_that_pushes_lines_over_the_edge"),
)  # fmt: skip
NUMBERS = ("0", "7", "007", "4096", "999999999999999999", "1e-6", "0.5", "1E+3", "1.50")
OPERATORS = ("or", "and", "==", "!=", "<=", ">=", "<", ">", "in", "+", "-", "*", "/", "//", "%")
DTYPES = ("bf16", "f32", "i32", "dtype", "f8e4m3")

names = st.sampled_from(NAMES)
strings = st.text(
    st.characters(exclude_characters='"\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00\x01', codec="utf-8"),
    max_size=12,
).map('"{}"'.format)  # fmt: skip
comments = st.text(st.sampled_from("abc #\"'{}()[]=,é"), max_size=8).map("#{}".format)


def several(
    items: SearchStrategy[str], least: int = 0, most: int = 3, joint: str = f",{GAP}"
) -> SearchStrategy[str]:
    """Draw a few of these texts, joined."""
    return st.lists(items, min_size=least, max_size=most).map(joint.join)


def _compound(inner: SearchStrategy[str]) -> SearchStrategy[str]:
    atom = st.one_of(inner.map("({})".format), names, st.sampled_from(NUMBERS))
    argument = st.one_of(inner, st.builds(f"{{}}{GAP}={GAP}{{}}".format, names, inner))
    listed = several(inner)
    arguments = several(argument)
    tail = st.sampled_from(["", f",{GAP}"])
    return st.one_of(
        st.builds(f"{{}}{GAP} {{}} {GAP}{{}}".format, atom, st.sampled_from(OPERATORS), atom),
        st.builds(
            f"{{}} {GAP}{{}}".format, st.sampled_from(["-", "not"]), inner.map("({})".format)
        ),
        st.builds(f"{{}}{GAP}({GAP}{{}}{GAP})".format, names, arguments),
        st.builds(f"{{}}[{GAP}{{}}{GAP}]".format, names, inner),
        st.builds(lambda body, end: f"[{body}{end if body else ''}]", listed, tail),
    )


expressions = st.recursive(
    st.one_of(names, st.sampled_from(NUMBERS), strings, st.sampled_from(["true", "false"])),
    _compound,
    max_leaves=8,
)
# A statement on one line may be followed by anything, so these never look like the start of the next.
axes = st.builds(
    lambda size, shards: size + "".join(f" {GAP}@{s}" for s in shards),
    expressions,
    st.lists(names, max_size=2),
)
types = st.builds(f"{{}}{GAP}[{GAP}{{}}{GAP}]".format, st.sampled_from(DTYPES), several(axes))
_simple = st.one_of(
    st.builds(f"input {GAP}{{}}{GAP}:{GAP}{{}}".format, names, types),
    st.builds(f"state {GAP}{{}}{GAP}:{GAP}{{}}".format, names, types),
    st.builds(f"state {GAP}{{}}[{GAP}i{GAP} < {{}}{GAP}]{GAP}:{{}}".format, names, expressions, types),
    st.builds(f"weight {GAP}{{}}{GAP}:{GAP}{{}}{GAP} from {GAP}{{}}".format, names, types, expressions),
    st.builds(f"output {GAP}{{}}{GAP}:{GAP}{{}}{GAP}={GAP}{{}}".format, names, types, expressions),
    st.builds(f"{{}}{GAP}={GAP}{{}}".format, several(names, 1), expressions),
    st.builds(f"require {GAP}{{}}".format, expressions),
    st.builds(f"return {GAP}{{}}".format, several(expressions, 1)),
)  # fmt: skip


def _body(items: SearchStrategy[str], most: int = 3) -> SearchStrategy[str]:
    return several(items, 0, most, LINE).map(
        lambda b: f"{{{LINE}{b}{LINE}}}" if b else f"{{{GAP}}}"
    )


def _branched(items: SearchStrategy[str]) -> SearchStrategy[str]:
    body = _body(items, 2)
    return st.builds(
        lambda conditions, bodies, last: "".join(
            [
                *(
                    f"{' else ' if k else ''}if {GAP}{c}{GAP} {b}"
                    for k, (c, b) in enumerate(zip(conditions, bodies, strict=True))
                ),
                f"{GAP} else {GAP}{last}" if last else "",
            ]
        ),
        st.shared(st.integers(1, 2), key="ways").flatmap(
            lambda n: st.lists(expressions, min_size=n, max_size=n)
        ),
        st.shared(st.integers(1, 2), key="ways").flatmap(
            lambda n: st.lists(body, min_size=n, max_size=n)
        ),
        st.one_of(st.just(""), body),
    )


def _nested(items: SearchStrategy[str]) -> SearchStrategy[str]:
    head = f"repeat {GAP}{{}}{GAP} < {GAP}{{}}{GAP}{{}} carry {GAP}{{}} {GAP}{{}}"
    return st.one_of(
        _branched(items),
        st.builds(
            head.format,
            names,
            expressions,
            st.sampled_from(["", f" @{GAP}pp"]),
            several(names, 1),
            _body(items),
        ),
    )


statements = st.recursive(_simple, _nested, max_leaves=4)
keys = several(st.sampled_from(["hidden_size", "rope_parameters", "S", "a1"]), 1, 2, f"{GAP}.{GAP}")
_literal = st.one_of(st.sampled_from([*NUMBERS, "-3", "true", "false"]), strings)
literals = st.one_of(_literal, several(_literal, 1).map("[{}]".format))
_bind = st.builds(
    lambda name, value, default: f"{name}{GAP}={GAP}{value}" + (f" {GAP}?? {default}" if default else ""),
    names,
    st.one_of(keys, literals),
    st.one_of(st.just(""), expressions),
)  # fmt: skip
_config_items = st.recursive(
    st.one_of(_bind, st.builds(f"require {GAP}{{}}".format, expressions)), _branched, max_leaves=3
)
_splits = st.sampled_from(["", f" @{GAP}dp", " @dp @pp"])
_pairs = several(st.builds(f"{{}}{{}}{GAP}:{GAP}{{}}".format, names, _splits, names), 1)
_items = st.one_of(
    _body(_config_items).map("config {}".format),
    _pairs.map(f"dims {GAP}{{{{{GAP}{{}}{GAP}}}}}".format),
    st.builds(f"entry {{}}{GAP} {{}}".format, names, _body(statements)),
    several(names, 1).map(f"mesh {GAP}{{{{{GAP}{{}}{GAP}}}}}".format),
    statements,
)
_param = st.builds(
    lambda name, kind, default: f"{name}{GAP}:{GAP}{kind}" + (f" {GAP}={GAP}{default}" if default else ""),
    names,
    st.one_of(types, names),
    st.one_of(st.just(""), expressions),
)  # fmt: skip
_declarations = st.one_of(
    strings.map(f"use {GAP}{{}}".format),
    st.builds(
        f"block {{}}{GAP}({GAP}{{}}{GAP}){GAP} ->{GAP} {{}}{GAP} {{}}".format,
        names, several(_param), several(types, 1, 2), _body(statements),
    ),
    st.builds(f"family {{}} {GAP}for {GAP}{{}} {{}}".format, names, several(strings, 1), _body(_items)),
)  # fmt: skip
programs = several(_declarations, 0, 3, LINE).map(f"sohu {GAP}1.0{LINE}{{}}{LINE}".format)


@st.composite
def laid_out(draw: st.DrawFn) -> str:
    """Draw a text with any white space, and comments between statements and at their ends."""
    return _fill(draw, draw(programs), st.sampled_from(["", "", "", " ", "  ", "\n", "\n\n  "]))


@st.composite
def scattered(draw: st.DrawFn) -> str:
    """Draw a text with comments wherever the grammar lets them stand, in the midst of expressions too."""
    inside = comments.map(" {}\n".format)
    gaps = st.one_of(st.sampled_from(["", "", "", " ", "\n"]), inside)
    return _fill(draw, draw(programs), gaps)


def _fill(draw: st.DrawFn, text: str, gaps: SearchStrategy[str]) -> str:
    ends = st.one_of(
        st.just("\n"),
        st.sampled_from(["\n\n", "\n\n\n  ", "\n\t"]),
        st.lists(comments, min_size=1, max_size=2).map(lambda c: "\n" + "\n  ".join(c) + "\n"),
        comments.map(" {}\n".format),
    )
    parts = []
    for char in text:
        if char == GAP:
            parts.append(draw(gaps))
        elif char == LINE:
            parts.append(draw(ends))
        else:
            parts.append(char)
    return "".join(parts)
