"""The steps and parameters of every flow."""

import ast
import importlib

from scripts.reference_pages.markdown import code, page, prose, table
from scripts.reference_pages.sources import calls, class_in, literal, tree_of

FLOWS = ("training", "deployment", "traffic", "monitoring", "indexing", "rag")


def flows_page() -> str:
    """Describe the parameters of every flow."""
    common = tree_of("common/pipeline.py")
    parts = [
        (
            "Parameters stand after `run`: `uv run src/pipelines/training.py run --folds 3`, or"
            " `just train --folds 3`. The config file stands before it: `--config project FILE`, or"
            " the whole configuration as JSON with `--config-value project '{…}'`."
        ),
        (
            "Metaflow's own options work as well: `--with retry` (before or after `run`), `--tag`,"
            " `resume`, `card view`; `--help` lists them."
        ),
        "## all flows",
        table(["parameter", "default", "meaning"], parameters(common, "Pipeline", None)),
    ]
    for flow in FLOWS:
        tree = tree_of(f"pipelines/{flow}.py")
        name = flow.capitalize()
        parts += [f"## {flow}", doc_of(tree, name), steps_of(tree, name)]
        rows = parameters(tree, name, flow)
        parts += [table(["parameter", "default", "meaning"], rows)] if rows else []
    return page("Flows and their parameters", *parts)


def doc_of(tree: ast.Module, name: str) -> str:
    """Return the first paragraph of a class's docstring."""
    text = ast.get_docstring(class_in(tree, name)) or ""
    return prose(" ".join(text.split("\n\n")[0].split()))


def steps_of(tree: ast.Module, name: str) -> str:
    """List the steps of a flow, with what each does."""
    steps = [
        f"- `{one.name}`: {prose((ast.get_docstring(one) or '').partition(chr(10))[0])}"
        for one in class_in(tree, name).body
        if isinstance(one, ast.FunctionDef)
        and any(ast.unparse(mark) == "step" for mark in one.decorator_list)
    ]
    return "\n".join(["Steps:", "", *steps])


def parameters(tree: ast.Module, name: str, flow: str | None) -> list[list[str]]:
    """Return name, default and meaning of each parameter that a flow's class declares."""
    rows = []
    for call in calls(class_in(tree, name), "parameter"):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        rows.append(
            [
                code(f"--{literal(call.args[0])}"),
                parameter_default(given.get("default"), flow),
                prose(str(literal(given["help"]))),
            ]
        )
    return rows


def parameter_default(value: ast.expr | None, flow: str | None) -> str:
    """Say what a parameter is where it is not given; nothing of the machine that writes this."""
    if value is None:
        return ""
    text = ast.unparse(value)
    if "cpu_count" in text:
        return "one a core"
    if isinstance(value, ast.Call) and text.startswith("config_expr"):
        key = str(literal(value.args[0])).removeprefix("project.")
        return f"{code(key)} of the config file"
    if isinstance(value, ast.Constant):
        found = value.value
    else:
        # such as a list that is joined
        module = importlib.import_module(f"pipelines.{flow}")
        found = eval(text, vars(module))  # noqa: S307 - an expression of this project
    return "" if found in (None, "", False) else code(found)
