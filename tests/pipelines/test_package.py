"""What travels: the code package of each flow, and the registered model."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from common import ROOT

pytestmark = pytest.mark.integration

FLOWS = ("training", "deployment", "traffic", "monitoring")


@pytest.mark.parametrize("flow", FLOWS)
def test_given_a_code_package_in_an_empty_folder_then_it_imports_what_the_flow_needs(
    workshop, tmp_path, flow
):
    archive = tmp_path / "package.tgz"
    file = ROOT / "src" / "pipelines" / f"{flow}.py"
    subprocess.run(
        [sys.executable, file, "--package-suffixes", ".py,.txt", "package", "save", archive],
        cwd=tmp_path,
        env={**os.environ, **workshop.environment},
        check=True,
        capture_output=True,
    )
    empty = tmp_path / "empty"
    with tarfile.open(archive) as package:
        package.extractall(empty)  # noqa: S202 - made above; early 3.11 knows no filter

    # -I: nothing of this machine's environment; the package's folders come first, as on a task
    script = (
        f"import sys; sys.path[:0] = ['.', '.mf_code']\n"
        f"import common.pipeline, inference.schema, {flow}\n"
        f"print(common.pipeline.__file__, inference.schema.__file__, {flow}.__file__)"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=empty, check=True, capture_output=True, text=True
    ).stdout.split()

    assert len(found) == 3
    for name in found:
        assert (empty / name).resolve().is_relative_to(empty)
    assert (empty / f"{flow}.py").exists()


def test_given_only_the_logged_requirements_then_the_registered_model_answers(
    workshop, deployed, record, tmp_path
):
    import mlflow  # noqa: PLC0415 - 4 s that only this test pays

    mlflow.set_tracking_uri(workshop.tracking_uri)
    uri = "models:/penguins@champion"
    required = Path(
        mlflow.artifacts.download_artifacts(f"{uri}/requirements.txt", dst_path=tmp_path)
    )
    script = (
        "import json, sys, mlflow, pandas\n"
        f"model = mlflow.pyfunc.load_model({uri!r})\n"
        f"print(json.dumps(model.predict(pandas.DataFrame([{record!r}]))))\n"
        "import inference; print(inference.__file__)\n"
        "print(sorted({'tensorflow', 'keras', 'sklearn', 'metaflow'} & set(sys.modules)))\n"
    )
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "uv runs the tests, so it must be there"
    found = subprocess.run(
        [uv, "run", "--no-project", "--python", sys.executable, "--with-requirements", required,
         "python", "-c", script],
        cwd=tmp_path,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("VIRTUAL")},
            "MLFLOW_TRACKING_URI": workshop.tracking_uri,
        },
        check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert found.returncode == 0, found.stderr
    predictions, where, heavy = found.stdout.strip().split("\n")
    assert json.loads(predictions) == workshop.backend.invoke([record]).predictions
    assert not Path(where).is_relative_to(ROOT), "it must come with the model"
    assert heavy == "[]"
