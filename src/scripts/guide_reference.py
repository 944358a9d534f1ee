"""Write docs/reference from the code and the configuration that it is about."""

from typing import Annotated

import typer

from common import ROOT
from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors
from scripts.reference_pages import (
    of_environment,
    of_errors,
    of_flows,
    of_http_api,
    of_recipes,
    of_settings,
)

FOLDER = ROOT / "docs" / "reference"


def pages() -> dict[str, str]:
    """Return the text of every page of the reference by the name of its file."""
    return {
        "settings.md": of_settings.settings_page(),
        "recipes.md": of_recipes.recipes_page(),
        "flows.md": of_flows.flows_page(),
        "http-api.md": of_http_api.http_api_page(),
        "errors.md": of_errors.errors_page(),
        "environment.md": of_environment.environment_page(),
    }


def reference(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end with 1 if a page is out of date.")
    ] = False,
) -> None:
    """Write the pages, and say which of them changed."""
    with one_line_errors():
        changed = []
        for name, text in pages().items():
            file = FOLDER / name
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                changed.append(name)
                if not check:
                    FOLDER.mkdir(parents=True, exist_ok=True)
                    file.write_text(text, encoding="utf-8")
        if check and changed:
            raise ConfigurationError(
                f"docs/reference: {', '.join(changed)} out of date: `just reference`"
            )
        print(f"docs/reference: {', '.join(changed) or 'nothing'} changed")


if __name__ == "__main__":
    typer.run(reference)
