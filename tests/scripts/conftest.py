"""What tests of the audit and of the hooks share: secrets that are valid nowhere."""

import random
import string

import pytest


@pytest.fixture(scope="session")
def planted_key() -> str:
    """Lines with an AWS access key and its secret, as none stands in the repository."""
    chance = random.Random(1)  # noqa: S311 - it opens nothing
    key = "AKIA" + "".join(chance.choices(string.ascii_uppercase + "234567", k=16))
    secret = "".join(chance.choices(string.ascii_letters + string.digits + "+/", k=40))
    return f"AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY={secret}\n"


@pytest.fixture(scope="session")
def private_key() -> str:
    """A private key in PEM, made for this run."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - few tests need it
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
