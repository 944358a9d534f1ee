"""Every recipe of the justfile, with the options of what it runs."""

import ast
import importlib
import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import typer

from common import ROOT
from inference.errors import ConfigurationError
from scripts.reference_pages.markdown import code, page, prose, table
from scripts.reference_pages.sources import calls, literal, tree_of

Json = dict[str, Any]


def recipes_page() -> str:
    """Describe every recipe of the justfile with the options of what it runs."""
    recipes = dumped_recipes()
    groups: dict[str, list[str]] = defaultdict(list)
    for name, recipe in recipes.items():
        [group] = [one["group"] for one in recipe["attributes"] if "group" in one]
        groups[group].append(name)
    parts = [
        (
            "What `just` runs; on a machine without just, `./justw` does. Extra arguments go to"
            " what a recipe runs: `just train --folds 3`. Recipes that run a flow take its"
            " [parameters](flows.md)."
        ),
    ]
    for group, names in groups.items():
        parts.append(f"## {group}")
        overview = [[f"[just {name}](#just-{name})", recipes[name]["doc"]] for name in names]
        parts.append(table(["recipe", "what it does"], overview))
        for name in names:
            parts += [f"### just {name}", *recipe_parts(recipes[name])]
    return page("Recipes", *parts)


def dumped_recipes() -> dict[str, Json]:
    """Return the public recipes in the order of the justfile.

    Raises:
        ConfigurationError: There is no just.
    """
    program = shutil.which("just") or str(ROOT / ".tools" / "bin" / "just")

    def ask(*words: str) -> str:
        command = [program, "--justfile", str(ROOT / "justfile"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - just itself

    try:
        known = json.loads(ask("--dump", "--dump-format", "json"))["recipes"]
        return {name: known[name] for name in ask("--summary", "--unsorted").split()}
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(f"just could not be asked for its recipes: {error}") from error


def recipe_parts(recipe: Json) -> list[str]:
    """Describe what a recipe runs and takes."""
    parts = [recipe["doc"] + "."]
    text = body_of(recipe)
    called = re.findall(r"src/(pipelines|scripts)/([\w/]+)\.py(?: ([a-z][\w-]*))?", text)
    if not called or '"$@"' not in text:
        return parts
    room, name, word = called[-1]
    if room == "pipelines":
        parts.append(f"Runs the flow [{name}](flows.md#{name}), with its parameters.")
        return parts
    options = script_options(name, word)
    if options:
        parts.append(table(["option", "default", "meaning"], options))
    return parts


def body_of(recipe: Json) -> str:
    """Return the lines of a recipe, with nothing in the place of variables."""
    lines = ("".join(part for part in line if isinstance(part, str)) for line in recipe["body"])
    return "\n".join(lines)


def script_options(name: str, word: str) -> list[list[str]]:
    """Return name, default and meaning of each option of a script.

    Args:
        name: Of its file below src/scripts.
        word: The command of a script that has several.
    """
    tree = tree_of(f"scripts/{name}.py")
    if function := started(tree):
        module = importlib.import_module(f"scripts.{name.replace('/', '.')}")
        app = getattr(module, function)
        if not isinstance(app, typer.Typer):
            wrapped = typer.Typer(add_completion=False)
            wrapped.command()(app)
            app = wrapped
        command: Any = typer.main.get_command(app)
        command = getattr(command, "commands", {}).get(word, command)
        return [option_row(one) for one in command.params if not getattr(one, "hidden", False)]
    return [row for call in calls(tree, "add_argument") if (row := argparse_row(call))]


def started(tree: ast.Module) -> str | None:
    """Return the name of the function or app that a script hands to typer."""
    for call in calls(tree, "run"):
        if ast.unparse(call.func) == "typer.run":
            return ast.unparse(call.args[0])
    apps = [call for call in calls(tree, "Typer") if ast.unparse(call.func) == "typer.Typer"]
    return "app" if apps else None


def option_row(option: Any) -> list[str]:  # noqa: ANN401 - typer's classes of options are its own
    """Describe an option of typer's."""
    names = [*option.opts, *option.secondary_opts]
    if option.param_type_name == "argument":
        names = [option.name.upper()]
    value = option.default
    if option.required:
        text = "required"
    elif callable(value) or value in (None, "", (), False, []):
        text = ""
    else:
        relative = isinstance(value, Path) and value.is_relative_to(ROOT)
        text = code(value.relative_to(ROOT) if relative else value)
    return [", ".join(map(code, names)), text, prose(option.help or "")]


def argparse_row(call: ast.Call) -> list[str] | None:
    """Describe an option of argparse's by the call that adds it."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    names = [ast.literal_eval(one) for one in call.args]
    text = literal(given.get("help"))
    value = literal(given.get("default"))
    return [", ".join(map(code, names)), code(value) if value else "", prose(str(text or ""))]
