import pytest

from scripts.rehearsal.place import Place


@pytest.fixture
def place(tmp_path) -> Place:
    """A prepared folder."""
    made = Place(tmp_path / "rehearsal")
    made.prepare()
    return made


def test_nothing_personal_reaches_a_rehearsed_command(place, tmp_path, monkeypatch):
    personal = tmp_path / "personal.env"
    personal.write_text("MY_DATABASE=postgres://me:secret@host/db\nPATH=/nowhere\n")
    theirs = {
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "token",
        "BUCKET": "precious",
        "METAFLOW_PROFILE": "production",
        "METAFLOW_SERVICE_URL": "http://service",
        "MLFLOW_TRACKING_PASSWORD": "password",
        "MY_DATABASE": "postgres://me:secret@host/db",
        "ROOKERY_ENV_FILE": str(personal),
    }
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NEUTRAL", "kept")

    environment = place.environment("http://127.0.0.1:1")

    assert not set(theirs.values()) & set(environment.values())
    assert environment["NEUTRAL"] == "kept"
    assert environment["PATH"]
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert environment["AWS_EC2_METADATA_DISABLED"] == "true"
    for name in (
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "HOME",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL",
        "METAFLOW_HOME",
        "ROOKERY_ENV_FILE",
        "ROOKERY_STATE",
    ):
        assert environment[name].startswith(str(place.folder)), name


def test_a_recipe_takes_its_variables_from_the_rehearsal(place):
    words = place.recipe("sagemaker-traffic", "--samples", "3")

    assert words[-3:] == ["sagemaker-traffic", "--samples", "3"]
    assert words[words.index("--dotenv-path") + 1] == str(place.env_file)
    assert place.env_file.exists()


def test_secrets_are_what_stands_in_the_files_for_them(place):
    place.env_file.write_text("BUCKET=open\nMLFLOW_TRACKING_PASSWORD=hidden\n")
    with place.credentials.open("a") as file:
        file.write("[someone]\naws_access_key_id = known\naws_secret_access_key = half\n")

    secrets = place.secrets()

    assert {"hidden", "half", "rehearsal-administrator-secret"} == secrets


@pytest.mark.parametrize("path", ["credentials", ".env"])
def test_files_of_secrets_are_their_owners_only(place, path):
    found = next(place.folder.rglob(path))

    assert found.stat().st_mode & 0o077 == 0
