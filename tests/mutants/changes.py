"""Small changes of a module, each of which a test should notice, found in its syntax tree.

A change is an edit of the text between two places, so that all else stays as it was written. Left alone: annotations,
decorators, imports, what is logged, and blocks for type checkers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

_OTHER_SIDE: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_BOUND = 10  # a number from here on is a limit, which is not noticed by a little: it becomes 0
Members = Mapping[str, tuple[str, ...]]  # of each enum, by its name


@frozen(kw_only=True)
class Change:
    """`path`: of the module, below the root. `begin`, `end`: offsets into its bytes."""

    path: str
    line: int
    kind: str
    begin: int
    end: int
    old: str
    new: str

    def applied(self, source: bytes) -> bytes:
        return source[: self.begin] + self.new.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {_short(self.old)} -> {_short(self.new)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def enum_members(root: Path, packages: tuple[str, ...]) -> Members:
    """The members of each enum in these packages."""
    found = {}
    for path in modules(root, packages):
        for node in ast.walk(ast.parse((root / path).read_bytes())):
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                names = [line.targets[0] for line in node.body if isinstance(line, ast.Assign)]
                found[node.name] = tuple(name.id for name in names if isinstance(name, ast.Name))
    return found


def modules(root: Path, paths: tuple[str, ...]) -> list[str]:
    """The modules that these paths name or hold, below the root, in order."""
    found = set[Path]()
    for path in paths:
        found |= {root / path} if path.endswith(".py") else set((root / path).rglob("*.py"))
    return sorted(str(path.relative_to(root)) for path in found if path.name != "__init__.py")


def changes_of(path: str, source: bytes, members: Members) -> list[Change]:
    """All changes of a module, in the order of its lines."""
    text = _Text(path, source)
    return sorted(
        (change for node in _nodes(ast.parse(source)) for change in _changes(node, text, members)),
        key=lambda change: (change.begin, change.end, change.new),
    )


class _Text:
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def of(self, node: ast.expr | ast.stmt) -> str:
        begin, end = self._span(node)
        return self._source[begin:end].decode()

    def changed(self, node: ast.expr | ast.stmt, kind: str, new: str) -> Change:
        begin, end = self._span(node)
        return Change(path=self._path, line=node.lineno, kind=kind, begin=begin, end=end, old=self.of(node), new=new)

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self._lines[node.lineno - 1] + node.col_offset
        return begin, self._lines[node.end_lineno - 1] + node.end_col_offset


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what lies below it, except for what is left alone."""
    if _is_left_alone(node):
        return
    yield node
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="logger")))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            return True
        case _:
            return False


def _changes(node: ast.AST, text: _Text, members: Members) -> Iterator[Change]:
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield text.changed(test, "condition negated", f"not ({text.of(test)})")
        case ast.comprehension(ifs=tests):
            for test in tests:
                yield text.changed(test, "condition negated", f"(not ({text.of(test)}))")
        case ast.BoolOp(op=op, values=values):
            word = " and " if isinstance(op, ast.And) else " or "
            for dropped in values:
                rest = [f"({text.of(value)})" for value in values if value is not dropped]
                yield text.changed(node, f"operand {_short(text.of(dropped))} dropped", f"({word.join(rest)})")
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            new = f"({text.of(left)}) {_OTHER_SIDE[type(op)]} ({text.of(right)})"
            yield text.changed(node, "comparison changed", f"({new})")
        case ast.Expr(value=ast.Call()):
            yield text.changed(node, "call skipped", "None")
        case ast.Raise():
            yield text.changed(node, "raise dropped", "pass")
        case ast.Constant(value=bool() as value):
            yield text.changed(node, "constant swapped", str(not value))
        case ast.Constant(value=int() as number):
            yield text.changed(node, "constant swapped", str(number + 1) if number < _BOUND else "0")
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in members.get(owner, ()):
            others = [other for other in members[owner] if other != name]
            if others:
                yield text.changed(node, "enum member swapped", f"{owner}.{others[0]}")
        case _:
            return
