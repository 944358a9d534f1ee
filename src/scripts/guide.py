"""Build the guide from docs/, and show it on http://127.0.0.1:8002."""

import functools
import os
import shutil
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer

from common import ROOT
from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors
from scripts.mlflow_server import check_port

HOST = "127.0.0.1"
SOURCE = ROOT / "docs"


class Handler(SimpleHTTPRequestHandler):
    """Answers with the guide's files."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
        """Say nothing of what went well or was not found; the browser shows it."""

    def end_headers(self) -> None:
        """Let a browser ask again after the next build."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def built() -> Path:
    """Return the folder of the built guide."""
    return ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "guide"


def build(output: Path, source: Path = SOURCE) -> None:
    """Make the guide's pages; what Sphinx warns of is an error.

    Raises:
        ConfigurationError: There was a warning or an error, which Sphinx has printed.
    """
    try:
        from sphinx.cmd.build import build_main  # noqa: PLC0415 - 1 s
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: run `just setup --group docs`"
        ) from error
    # pages that are gone
    shutil.rmtree(output, ignore_errors=True)
    options = ("--quiet", "--fail-on-warning", "--nitpicky", "--builder", "html")
    if build_main([*options, str(source), str(output)]):
        raise ConfigurationError("the guide was not built; the reasons are above")


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Make the server of a built guide.

    Raises:
        ConfigurationError: The port is taken.
    """
    check_port((HOST, port))
    return ThreadingHTTPServer((HOST, port), functools.partial(Handler, directory=str(folder)))


def guide(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8002,
    build_only: Annotated[bool, typer.Option("--build-only", help="Do not serve it.")] = False,
) -> None:
    """Build the guide, and serve it until Ctrl-C."""
    with one_line_errors():
        folder = built()
        if not build_only:
            check_port((HOST, port))
        build(folder)
        print(f"{folder / 'index.html'} is built")
        if build_only:
            return
        with make_server(folder, port) as server:
            print(f"the guide is on http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


if __name__ == "__main__":
    typer.run(guide)
