"""The error family, and the messages that its members are raised with."""

import ast
import re
from collections import defaultdict

from common import ROOT
from inference import errors
from scripts.reference_pages.markdown import code, page, table
from scripts.reference_pages.sources import SOURCES


def errors_page() -> str:
    """Describe the error family, and the messages that its members carry."""
    family, raised = find_errors()
    overview = []
    for name, (base, text, file) in family.items():
        kind = getattr(errors, name, None)
        status = f"{kind.status} {code(kind.code)}" if kind else f"as {code(base)}"
        place = "" if kind else f" In [{file}](../../{file})."
        linked = f"[{name}](#{name.lower()})" if raised[name] else name
        overview.append([linked, status, text + place])
    parts = [
        (
            "Every error that is raised on purpose is one of these, most of them in"
            " [src/inference/errors.py](../../src/inference/errors.py). A command says it in one"
            " line that begins with `error:`, and ends with exit code 1; a flow says it as the"
            " reason of the step that failed, and ends with 1 as well. `ROOKERY_TRACE=1` shows the"
            " whole stack. Where a request to the server meets one, its answer has the status and"
            " the code."
        ),
        (
            "Exit codes that say something else: `just monitor` ends with 2 where monitoring says"
            " fail, `just ask` where the documents do not answer, and `just audit` where it found"
            " something."
        ),
        table(["error", "status, code", "when"], overview),
        (
            "The messages below are those that the code holds; `…` stands for what differs from"
            " case to case."
        ),
    ]
    for name in family:
        if raised[name]:
            rows = sorted((message, f"[{file}](../../{file})") for message, file in raised[name])
            cells = [[code(message), file] for message, file in rows]
            parts += [f"## {name}", table(["message", "raised in"], cells)]
    return page("Errors", *parts)


def find_errors() -> tuple[dict[str, tuple[str, str, str]], dict[str, set[tuple[str, str]]]]:
    """Find the error family in the sources.

    Returns:
        For each class its base, the first line of its docstring and its file, bases first; and
        for each class the messages that it is raised with, each with its file.
    """
    classes: dict[str, tuple[str, str, str]] = {}
    raised: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in sorted(SOURCES.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.bases:
                text = (ast.get_docstring(node) or "").partition("\n")[0]
                classes[node.name] = (ast.unparse(node.bases[0]), text, file)
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            if node.exc.args and (message := template(node.exc.args[0])):
                raised[ast.unparse(node.exc.func)].add((message, file))
    family = {"RookeryError": classes["RookeryError"]}
    while found := {n: c for n, c in classes.items() if c[0] in family and n not in family}:
        # those of inference/errors.py in its order, then the others
        family |= dict(
            sorted(found.items(), key=lambda one: one[1][2] != "src/inference/errors.py")
        )
    return family, raised


def template(node: ast.expr) -> str:
    """Return the text of a message with … for what is put into it; nothing if it is all that."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values]
        text = "".join(parts)
    else:
        return ""
    text = " ".join(text.split())
    return text if re.search(r"\w{3}", text) else ""
