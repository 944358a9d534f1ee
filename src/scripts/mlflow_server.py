"""Serve MLflow's UI and API over the store that the pipelines write.

Options other than --host and --port are passed on to `mlflow server`.
"""

import argparse
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from common import ROOT, registry, settings
from inference.errors import ConfigurationError, RookeryError

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def find_store(tracking_uri: str, root: Path) -> tuple[str, Path]:
    """Find what the server shows.

    Args:
        tracking_uri: Where the pipelines write. If that is a server, such as the one about to
            start, the store behind it is the embedded one.
        root: Folder of the embedded store.

    Returns:
        URI of the database, and the folder of the artifacts next to it.
    """
    if not tracking_uri.startswith(DATABASES):
        tracking_uri = f"sqlite:///{root / 'mlflow.db'}"
    prefix = "sqlite:///"
    if tracking_uri.startswith(prefix):
        return tracking_uri, Path(tracking_uri.removeprefix(prefix)).parent / "mlruns"
    return tracking_uri, root / "mlruns"


def make_command(artifacts: Path, address: tuple[str, int]) -> list[str]:
    """Make the command that starts the server."""
    host, port = address
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--default-artifact-root", str(artifacts)),
        # runs are written with and without the server; both ways name artifacts by their path
        "--no-serve-artifacts",
    ]


def make_environment(environment: Mapping[str, str], store: str) -> dict[str, str]:
    """Make the server's environment: no address of itself, no workers for jobs of its own.

    The store may hold a password, which everybody could read among a command's words.
    """
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": store}
    return {k: v for k, v in environment.items() if k != "MLFLOW_TRACKING_URI"} | own


def check_port(address: tuple[str, int]) -> None:
    """Check that the port is free.

    Raises:
        ConfigurationError: The address is taken, or none of this machine's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address[0]}:{address[1]} ({error.strerror}); choose another"
                " port with --port"
            ) from error


def main() -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(
        prog="just mlflow", description="Show runs and models in a browser."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=5000, type=int, help="port to listen on")
    arguments, others = parser.parse_known_args()
    address = (arguments.host, arguments.port)
    try:
        store, artifacts = find_store(settings.load().tracking_uri, ROOT)
        registry.require_database(store)
        check_port(address)
    except RookeryError as error:
        sys.exit(f"mlflow: {error}")
    shown = registry.without_password(store)
    print(f"MLflow shows {shown} on http://{address[0]}:{address[1]} (Ctrl-C ends it)", flush=True)
    command = [*make_command(artifacts, address), *others]
    os.execve(command[0], command, make_environment(os.environ, store))  # noqa: S606 - no shell needed


if __name__ == "__main__":
    main()
