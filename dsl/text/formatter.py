# SPDX-License-Identifier: Apache-2.0
"""Print syntax trees in the canonical layout: the inverse of the parser.

Comments stay with the statement they precede or follow; runs of weights and of config lines are aligned; one blank line
is kept where there were any. Meaning plays no part.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.printing import Style, print_expr, print_type

WIDTH = 100
INDENT = "  "


def format_file(file: sx.File) -> str:
    """Return the canonical text of a file."""
    printer = _Printer(file)
    printer.file()
    printer.align_remarks()
    return "\n".join(printer.lines) + "\n"


class _Printer:
    def __init__(self, file: sx.File) -> None:
        self.tree = file
        self.lines: list[str] = []
        self.depth = 0
        self.fresh = True
        self.comments: dict[Source, deque[sx.Comment]] = {}
        for comment in sorted(file.comments, key=lambda c: c.span.start):
            self.comments.setdefault(comment.span.source, deque()).append(comment)
        self.last_end: dict[Source, int] = {}
        self.remarks: dict[int, tuple[str, str]] = {}

    # Lines, blank lines and comments

    def file(self) -> None:
        header = self.comments.get(self.tree.span.source, deque())
        first = self.tree.declarations[0].span.start if self.tree.declarations else None
        version_at, version_end = _version_place(self.tree.span.source)
        while header and header[0].span.start < version_at:
            self.line(header.popleft().text)
        self.line(f"sohu {self.tree.version}")
        self.last_end[self.tree.span.source] = version_end
        self._trailing(self.tree.span.source, version_end)
        previous: sx.Declaration | None = None
        for declaration in self.tree.declarations:
            together = isinstance(previous, sx.Use) and isinstance(declaration, sx.Use)
            self.fresh = together
            if not together:
                self.lines.append("")
            self.declaration(declaration)
            previous = declaration
        rest = [c for queue in self.comments.values() for c in queue]
        if rest and first is not None:
            self.lines.append("")
        for comment in rest:
            self.line(comment.text)

    def line(self, text: str) -> None:
        self.lines.append(f"{INDENT * self.depth}{text}" if text else "")
        self.fresh = False

    def before(self, node: sx.Syntax) -> None:
        """Print the comments that precede a node and keep one blank line."""
        source = node.span.source
        queue = self.comments.get(source, deque())
        while queue and queue[0].span.start < node.span.start:
            comment = queue.popleft()
            self._blank(source, comment.span.start)
            self.line(comment.text)
            self.last_end[source] = comment.span.end
        self._blank(source, node.span.start)

    def _blank(self, source: Source, start: int) -> None:
        end = self.last_end.get(source)
        between = source.text[end:start] if end is not None and end <= start else ""
        if between.count("\n") > 1 and not self.fresh and self.lines and self.lines[-1]:
            self.lines.append("")

    def after(self, node: sx.Syntax, end: int | None = None) -> None:
        """Note where a node ended and print the comment that follows it on its line."""
        source = node.span.source
        self.last_end[source] = node.span.end if end is None else end
        self._trailing(source, self.last_end[source])

    def _trailing(self, source: Source, end: int, limit: int | None = None) -> None:
        queue = self.comments.get(source, deque())
        line = source.position(end)[0]
        while queue and queue[0].trailing and source.position(queue[0].span.start)[0] == line:
            if queue[0].span.start < end or (limit is not None and queue[0].span.start > limit):
                return
            comment = queue.popleft()
            self.remarks[len(self.lines) - 1] = (self.lines[-1], comment.text)
            self.lines[-1] = f"{self.lines[-1]}  {comment.text}"
            self.last_end[source] = comment.span.end

    def align_remarks(self) -> None:
        """Align the comments that end neighbouring lines."""
        run: list[int] = []
        for number in [*sorted(self.remarks), -1]:
            if run and number == run[-1] + 1:
                run.append(number)
                continue
            width = max((len(self.remarks[n][0]) for n in run), default=0)
            for n in run:
                code, remark = self.remarks[n]
                self.lines[n] = f"{code.ljust(width)}  {remark}"
            run = [number]

    def body(self, head: str, node: sx.Syntax, items: Sequence[sx.Syntax], tail: str = "}") -> None:
        """Print `head {`, the items one level deeper, and the closing brace."""
        self.line(f"{head} {{")
        self.fresh = True
        start = items[0].span.start if items else node.span.end
        source = node.span.source
        opening = _last(source, "{", node.span.start, start)
        if opening >= 0 and (not items or items[0].span.source is source):
            self._trailing(source, opening + 1, start)
        self.depth += 1
        self.items(items)
        if source.text[node.span.end - 1 : node.span.end] == "}":
            self._inner_comments(source, node.span.end)
        self.depth -= 1
        self.line(tail)

    def _inner_comments(self, source: Source, end: int) -> None:
        queue = self.comments.get(source, deque())
        while queue and queue[0].span.start < end:
            comment = queue.popleft()
            self._blank(source, comment.span.start)
            self.line(comment.text)
            self.last_end[source] = comment.span.end

    def items(self, items: Sequence[sx.Syntax]) -> None:
        columns = _columns(items, self.comments)
        for item in items:
            self.before(item)
            self.item(item, columns.get(id(item), ()))

    # Declarations

    def declaration(self, node: sx.Declaration) -> None:
        self.before(node)
        match node:
            case sx.Use(path=path):
                self.line(f'use "{path.value}"')
            case sx.Block():
                self.body(self._signature(node), node, node.body)
            case sx.Part(name=name, items=items):
                self.body(f"part {name.id}", node, items)
            case sx.Family(name=name, architectures=architectures, items=items):
                names = ", ".join(f'"{a.value}"' for a in architectures)
                self.body(f"family {name.id} for {names}", node, items)
        self.after(node)

    def _signature(self, node: sx.Block) -> str:
        params = [_param(p) for p in node.params]
        results = ", ".join(print_type(t) for t in node.results)
        flat = f"block {node.name.id}({', '.join(params)}) -> {results}"
        if len(flat) + 2 <= WIDTH:
            return flat
        joined = ", ".join(params)
        inner = [joined] if len(joined) + len(INDENT) <= WIDTH else [f"{p}," for p in params]
        rows = "".join(f"\n{INDENT}{row}" for row in inner)
        return f"block {node.name.id}({rows}\n) -> {results}"

    # Items and statements

    def item(self, node: sx.Syntax, columns: tuple[int, ...]) -> None:
        match node:
            case sx.Config(items=items):
                self.body("config", node, items)
            case sx.If() | sx.ConfigIf():
                self.conditional(node)
            case sx.Entry(name=name, body=body):
                self.body(f"entry {name.id}", node, body)
            case sx.RepeatSyntax(variable=variable, count=count, carry=carry, body=body):
                names = ", ".join(n.id for n in carry)
                split = f" @{node.stages.id}" if node.stages else ""
                head = f"repeat {variable.id} < {print_expr(count)}{split} carry {names}"
                self.body(head, node, body)
            case _:
                for row in _simple(node, columns, WIDTH - len(INDENT) * self.depth):
                    self.line(row)
        self.after(node)

    def conditional(self, node: sx.If | sx.ConfigIf, prefix: str = "") -> None:
        head = f"{prefix}if {print_expr(node.condition)}"
        if not node.orelse:
            self.body(head, node, node.then)
            return
        nested = node.orelse[0]
        chained = isinstance(nested, (sx.If, sx.ConfigIf)) and _is_chain(node, nested)
        end = nested.span.start
        self._branch(head, node, node.then, end)
        if chained and isinstance(nested, (sx.If, sx.ConfigIf)):
            self.lines.pop()
            self.conditional(nested, "} else ")
            return
        self.lines.pop()
        self.body("} else", _after(node, node.then), node.orelse)

    def _branch(self, head: str, node: sx.Syntax, items: Sequence[sx.Syntax], end: int) -> None:
        source = node.span.source
        close = _last(source, "}", node.span.start, end)
        place = sx.Syntax(type(node.span)(source, node.span.start, max(close + 1, node.span.start)))
        self.body(head, place, items)


def _after(node: sx.If | sx.ConfigIf, then: Sequence[sx.Syntax]) -> sx.Syntax:
    """Return the place of the else branch, for its comments."""
    start = then[-1].span.end if then else node.span.start
    return sx.Syntax(type(node.span)(node.span.source, start, node.span.end))


def _is_chain(node: sx.If | sx.ConfigIf, nested: sx.Syntax) -> bool:
    """Tell whether an else branch was written `else if`; braces around it would end after it."""
    return len(node.orelse) == 1 and nested.span.end == node.span.end


_VERSION = re.compile(r"(?:\s|#[^\n]*\n)*(sohu)(?:\s|#[^\n]*\n)*[\d.]+")


_MARKS = re.compile(r'"[^"\n]*"|#[^\n]*|[{}]')


def _last(source: Source, brace: str, start: int, end: int) -> int:
    """Return where a range has its last brace that is neither in a string nor in a comment, or -1."""
    place = -1
    for match in _MARKS.finditer(source.text, start, end):
        if match.group() == brace:
            place = match.start()
    return place


def _version_place(source: Source) -> tuple[int, int]:
    """Return where the version line begins and ends."""
    version = _VERSION.match(source.text)
    return (version.start(1), version.end()) if version else (0, 0)


def _dim(dim: sx.DimSyntax) -> str:
    shards = "".join(f" @{name.id}" for name in dim.shards)
    return f"{dim.name.id}{shards}: {dim.role.id}"


def _param(param: sx.Param) -> str:
    kind = param.kind.id if isinstance(param.kind, sx.Name) else print_type(param.kind)
    default = "" if param.default is None else f" = {print_expr(param.default)}"
    return f"{param.name.id}: {kind}{default}"


# Aligned columns


def _cells(node: sx.Syntax) -> tuple[str, ...]:
    """Return the parts of a line that align with its neighbours'."""
    match node:
        case sx.WeightSyntax(name=name, type=type_):
            return f"weight {name.id}:", print_type(type_)
        case sx.StateSyntax(name=name, variable=index, count=count):
            item = f"[{index.id} < {print_expr(count)}]" if index and count else ""
            return (f"state {name.id}{item}:",)
        case sx.Bind(name=name, value=value, default=default):
            shown = _bind_value(value)
            return (name.id, shown) if default is not None else (name.id,)
    return ()


def _bind_value(value: sx.Key | sx.Expr) -> str:
    return " or ".join(value.paths) if isinstance(value, sx.Key) else print_expr(value)


def _columns(
    items: Sequence[sx.Syntax], comments: dict[Source, deque[sx.Comment]]
) -> dict[int, tuple[int, ...]]:
    """Return the column widths of every item in a run of neighbours of one kind."""
    columns: dict[int, tuple[int, ...]] = {}
    run: list[sx.Syntax] = []
    for item in [*items, None]:
        if (
            item is not None
            and run
            and type(run[-1]) is type(item)
            and _adjacent(run[-1], item, comments)
        ):
            run.append(item)
            continue
        widths = _widths(run)
        columns |= {id(member): widths for member in run}
        run = [item] if item is not None and _cells(item) else []
    return columns


def _adjacent(
    first: sx.Syntax, second: sx.Syntax, comments: dict[Source, deque[sx.Comment]]
) -> bool:
    source = first.span.source
    if second.span.source is not source:
        return True
    between = source.text[first.span.end : second.span.start]
    # A comment inside of a statement moves to a line of its own below it.
    own_line = any(
        first.span.start <= c.span.start < second.span.start
        and not (c.trailing and c.span.start >= first.span.end)
        for c in comments.get(source, ())
    )
    return between.count("\n") <= 1 and not own_line


def _widths(run: Sequence[sx.Syntax]) -> tuple[int, ...]:
    rows = [_cells(item) for item in run]
    count = max((len(row) for row in rows), default=0)
    return tuple(max(len(row[i]) for row in rows if len(row) > i) for i in range(count))


def _pad(cell: str, columns: tuple[int, ...], index: int) -> str:
    return cell.ljust(columns[index]) if index < len(columns) else cell


# Statements without a body


def _simple(node: sx.Syntax, columns: tuple[int, ...], width: int) -> list[str]:
    match node:
        case sx.WeightSyntax() | sx.Unused():
            return _stored(node, columns, width)
        case sx.Bind(value=value, default=default):
            cells = _cells(node)
            head = f"{_pad(cells[0], columns, 0)} = "
            if default is not None:
                return [f"{head}{_pad(cells[1], columns, 1)} ?? {print_expr(default)}"]
            if isinstance(value, sx.Listing):
                return _rows(head, value, width)
            return [f"{head}{_bind_value(value)}"]
        case sx.Require(condition=condition):
            return _rows("require ", condition, width)
        case sx.Include() | sx.Dims() | sx.Mesh():
            return [_section(node)]
        case sx.Input(name=name, type=type_):
            return [f"input {name.id}: {print_type(type_)}"]
        case sx.StateSyntax(type=type_):
            return [f"{_pad(_cells(node)[0], columns, 0)} {print_type(type_)}"]
        case sx.OutputSyntax(name=name, type=type_, value=value):
            return _rows(f"output {name.id}: {print_type(type_)} = ", value, width)
        case sx.Assign(targets=targets, value=value):
            return _rows(f"{', '.join(t.id for t in targets)} = ", value, width)
        case sx.Return(values=values):
            if len(values) == 1:
                return _rows("return ", values[0], width)
            return [f"return {', '.join(print_expr(v) for v in values)}"]
    raise TypeError(f"no layout for {type(node).__name__}")


def _section(node: sx.Include | sx.Dims | sx.Mesh) -> str:
    match node:
        case sx.Include(name=name):
            return f"include {name.id}"
        case sx.Dims(items=items):
            return f"dims {{ {', '.join(_dim(d) for d in items)} }}"
        case sx.Mesh(axes=axes):
            return f"mesh {{ {', '.join(a.id for a in axes)} }}"


def _stored(node: sx.WeightSyntax | sx.Unused, columns: tuple[int, ...], width: int) -> list[str]:
    """Return what a text says of a checkpoint's tensors."""
    if isinstance(node, sx.Unused):
        names = ", ".join(f'"{p.value}"' for p in node.patterns)
        return [f'unused {names} because "{node.reason.value}"']
    label, type_text = _cells(node)
    head = f"{_pad(label, columns, 0)} {_pad(type_text, columns, 1)} from "
    return _sources(head, node.source, width)


def _sources(head: str, source: sx.Expr, width: int) -> list[str]:
    """Return a weight's source; alternatives that do not fit on one line stand on lines of their own."""
    first, *others = sx.alternatives(source)
    flat = f"{head}{print_expr(source)}"
    if len(flat) <= width:
        return [flat]
    rows = _rows(head, first, width)
    for other in others:
        start, *rest = _rows("or ", other, width - len(INDENT))
        rows += [f"{INDENT}{start}", *(f"{INDENT}{row}" for row in rest)]
    return rows


def _rows(head: str, expr: sx.Expr, width: int) -> list[str]:
    flat = f"{head}{print_expr(expr)}"
    if len(flat) <= width:
        return [flat]
    broken = Style(width=width).broken(expr)
    return [f"{head}{broken[0]}", *broken[1:]]
