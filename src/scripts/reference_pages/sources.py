"""What the files below src say, without running them."""

import ast
from collections.abc import Iterator

from common import ROOT

SOURCES = ROOT / "src"


def tree_of(file: str) -> ast.Module:
    """Parse a file below src."""
    return ast.parse((SOURCES / file).read_text(encoding="utf-8"))


def class_in(tree: ast.Module, name: str) -> ast.ClassDef:
    """Return a class of a file."""
    [found] = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name]
    return found


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a function or method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            if called == name:
                yield node


def literal(node: ast.AST | None) -> object:
    """Return the value of an expression that is a constant."""
    return node.value if isinstance(node, ast.Constant) else None
