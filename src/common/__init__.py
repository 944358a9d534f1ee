"""What the pipelines share.

Importing it sets up the environment that the libraries expect.
"""

import gc
import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from common.interruption import hide_trace
from inference.variables import replaced_by_shells

# Without this line, Metaflow leaves this package behind when it sends a flow's code away.
METAFLOW_PACKAGE_POLICY = "include"

ROOT = Path(os.environ.get("ROOKERY_ROOT") or Path(__file__).resolve().parents[2])


DEFAULTS = {
    "KERAS_BACKEND": "tensorflow",
    # start-up notices and chatter
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # nothing is reported to anybody; each library has a switch of its own
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}


def env_file() -> Path:
    """Return the file of the variables: $ROOKERY_ENV_FILE, or .env at the root."""
    return Path(os.environ.get("ROOKERY_ENV_FILE") or ROOT / ".env")


def prepare_environment() -> None:
    """Read .env, and give Metaflow and the libraries the variables that a bare machine lacks."""
    try:
        if env_file().is_file() and (names := replaced_by_shells(env_file())):
            raise SystemExit(
                f"error: {env_file()}: {', '.join(names)}: a value with a $ must stand between"
                " single quotes, for just and shells would replace what follows it"
            )
        load_dotenv(env_file())
    except (OSError, UnicodeDecodeError) as error:
        # this runs at an import, before anything could turn an error into a line
        message = f"error: {env_file()}: cannot be read ({error}); it must be text in UTF-8"
        raise SystemExit(message) from error
    cache = ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "cache"
    # these two would write into the user's home
    homes = {name: str(cache / name.lower()) for name in ("KERAS_HOME", "MPLCONFIGDIR")}
    for name, value in (DEFAULTS | homes).items():
        os.environ.setdefault(name, value)
    # Metaflow stops where it finds no user name, or only root. It has read METAFLOW_USER by now,
    # where a flow's file imports it first; the others it reads later.
    names = [os.environ.get(key) for key in ("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER")]
    if not any(name and name != "root" for name in names):
        os.environ["USERNAME"] = "rookery"


# An eighth of what TensorFlow, Evidently and MLflow take to import goes into looking through what
# they have just made for garbage, each 700 objects unless another number is set.
gc.set_threshold(50_000)
sys.excepthook = hide_trace
prepare_environment()
