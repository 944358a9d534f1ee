"""The stacks' templates, as far as they can be judged without AWS."""

import json
import re
import subprocess
import sys
import tomllib
from datetime import datetime

import pytest
import yaml

from common import ROOT

PATHS = sorted((ROOT / "cloud-formation").glob("*.yaml"))
BODY_LIMIT = 51_200  # of a template that is sent with the call
USER_DATA_LIMIT = 16_384


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, each as a dictionary of its long one."""


def long_form(loader, suffix, node):
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    return {name: loader.construct_sequence(node, deep=True)}


Loader.add_multi_constructor("!", long_form)


def read(path):
    return yaml.load(path.read_text(), Loader)  # noqa: S506 - a safe loader with more tags


@pytest.fixture(scope="module")
def mlflow():
    return read(ROOT / "cloud-formation" / "mlflow-cfn.yaml")


@pytest.fixture(scope="module")
def locked():
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return {package["name"]: package for package in packages}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_template_is_one_that_cloudformation_takes(path):
    text = path.read_text()
    assert len(text.encode()) <= BODY_LIMIT
    # cfn-lint does not know that CloudFormation reads no YAML aliases
    tokens = yaml.scan(text)
    assert not [one for one in tokens if isinstance(one, yaml.AliasToken | yaml.AnchorToken)]


def statements(path):
    """Every statement of every policy, with the number of the line where a resource is `*`."""
    found = []

    def look(part):
        if isinstance(part, dict):
            if "Effect" in part:
                found.append(part)
            part = list(part.values())
        if isinstance(part, list):
            for one in part:
                look(one)

    look(read(path)["Resources"])
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_policies_name_actions_and_a_wildcard_resource_has_its_reason_beside_it(path):
    for statement in statements(path):
        if statement["Effect"] == "Allow":
            actions = statement["Action"]
            actions = [actions] if isinstance(actions, str) else actions
            assert not [action for action in actions if "*" in action]
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.strip() in {'Resource: "*"', 'Principal: "*"', '- "*"'}:
            assert lines[number - 1].strip().startswith("# "), f"line {number + 1}"


def test_the_server_is_reached_from_a_range_that_somebody_has_given(mlflow):
    cidr = mlflow["Parameters"]["Cidr"]
    assert "Default" not in cidr
    pattern = re.compile(cidr["AllowedPattern"])
    for good in ("203.0.113.7/32", "10.0.0.0/8", "192.168.0.0/16"):
        assert pattern.fullmatch(good)
    for bad in ("0.0.0.0/0", "10.0.0.0/7", "10.0.0.0", "256.0.0.0/8", "10.0.0.0/33", "::/0", ""):
        assert not pattern.fullmatch(bad)
    refused = mlflow["Rules"]["NotTheWholeInternet"]["Assertions"][0]["Assert"]
    assert refused == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Cidr"}, "0.0.0.0/0"]}]}
    rules = mlflow["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]
    rules += [mlflow["Resources"][name]["Properties"] for name in INGRESS]
    assert {rule["FromPort"] for rule in rules} == {22, 5000}
    sources = [rule.get("CidrIp") or rule["SourceSecurityGroupId"] for rule in rules]
    assert {json.dumps(source) for source in sources} == {
        '{"Ref": "Cidr"}',
        '{"Ref": "ClientSecurityGroup"}',
    }


INGRESS = ("IngressForSsh", "IngressOfClients")


def test_the_server_runs_what_the_clients_run(mlflow, locked):
    parameters = mlflow["Parameters"]
    assert parameters["MlflowVersion"]["Default"] == locked["mlflow"]["version"]
    assert parameters["Boto3Version"]["Default"] == locked["boto3"]["version"]


def test_the_time_of_the_packages_is_after_the_pinned_ones(mlflow, locked):
    until = datetime.fromisoformat(mlflow["Parameters"]["PackagesUntil"]["Default"])
    for name in ("mlflow", "boto3"):
        times = [file["upload-time"] for file in locked[name]["wheels"] if "upload-time" in file]
        assert all(datetime.fromisoformat(str(time)) < until for time in times)


@pytest.fixture(scope="module")
def boot(mlflow):
    """The boot script, with everything that CloudFormation puts in."""
    template = mlflow["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    script = template["UserData"]["Fn::Base64"]["Fn::Sub"]
    values = {
        "AWS::Region": "us-east-1",
        "AWS::StackName": "rookery-mlflow",
        "Address": "203.0.113.9",
        "Bucket": "bucket",
        "Secret": "rookery-mlflow",
        "Volume": "vol-1",
    }

    def put_in(match):
        return values.get(match[1], "x")

    filled = re.sub(r"\$\{([\w:.]+)\}", put_in, script)
    return filled.replace("${!", "${")


def test_the_boot_script_fits_and_is_one(boot):
    assert len(boot.encode()) <= USER_DATA_LIMIT
    result = subprocess.run(["bash", "-n"], input=boot, text=True, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "PASSWORD" not in boot.replace('account["MLFLOW_TRACKING_PASSWORD"]', "").replace(
        "MLFLOW_AUTH_ADMIN_PASSWORD=", ""
    )


@pytest.fixture
def program(boot, tmp_path):
    """The program that becomes the server, with its data below a folder of the test."""
    text = re.search(r"start\.py <<'END'\n(.*?)\nEND\n", boot, re.DOTALL)[1]
    file = tmp_path / "start.py"
    (tmp_path / "data").mkdir()
    file.write_text(text.replace("/var/lib/mlflow", str(tmp_path / "data")))
    return file


@pytest.mark.integration
def test_the_server_gets_its_account_from_the_secret_alone(program, tmp_path):
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - 3 s

    # what it becomes says how it was called, in place of MLflow
    (tmp_path / "mlflow.py").write_text(
        "import json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "AKIA",
            "AWS_SECRET_ACCESS_KEY": "x",
            "PYTHONPATH": str(tmp_path),
        }
        content = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "hush"}
        make = "import boto3, sys; boto3.client('secretsmanager', region_name='us-east-1')"
        make += ".create_secret(Name='rookery-mlflow', SecretString=sys.argv[1])"
        run(environment, "-c", make, json.dumps(content))
        words, variables = json.loads(run(environment, str(program)))
        again = json.loads(run(environment, str(program)))[1]
    finally:
        server.stop()
    assert variables["MLFLOW_AUTH_ADMIN_USERNAME"] == "admin"
    assert variables["MLFLOW_AUTH_ADMIN_PASSWORD"] == "hush"  # noqa: S105 - nobody's
    assert "hush" not in " ".join(words)
    # sessions outlive a restart
    key = variables["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    assert len(key) == 64
    assert again["MLFLOW_FLASK_SERVER_SECRET_KEY"] == key
    assert (tmp_path / "data" / "session-key").stat().st_mode & 0o777 == 0o600
    assert words[words.index("--artifacts-destination") + 1] == "s3://bucket/mlflow"
    assert words[words.index("--app-name") + 1] == "basic-auth"
    hosts = words[words.index("--allowed-hosts") + 1].split(",")
    assert "*" not in hosts
    assert "ec2-203-0-113-9.*" in hosts


def run(environment, *words):
    result = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
