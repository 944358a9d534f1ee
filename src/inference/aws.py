"""AWS: clients of its services, and what their errors mean in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inference.errors import BackendError, RookeryError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.session import Session

# Attempts at a call; botocore waits between them, longer each time, by a random share of it.
ATTEMPTS = 6
CONNECT_SECONDS = 10
# SageMaker lets a model take 60 s
READ_SECONDS = 70

EXPIRED = "they have expired: renew them (`aws sso login`, say), or unset AWS_SESSION_TOKEN"
UNKNOWN = "AWS does not know them: check AWS_PROFILE, or run `just aws-setup`"
# What to do about an error, by its code.
ADVICE = {
    "ExpiredToken": f"the credentials are no good, {EXPIRED}",
    "ExpiredTokenException": f"the credentials are no good, {EXPIRED}",
    "RequestExpired": "the credentials have expired, or this machine's clock is wrong",
    "InvalidClientTokenId": f"the credentials are no good, {UNKNOWN}",
    "InvalidAccessKeyId": f"the credentials are no good, {UNKNOWN}",
    "SignatureDoesNotMatch": f"the credentials are no good, {UNKNOWN}",
    "UnrecognizedClientException": f"the credentials are no good, {UNKNOWN}",
    "NoSuchBucket": "run `just aws-setup`, or set BUCKET to one that is there",
    "ThrottlingException": "AWS asks for fewer calls; try again in a minute",
    "Throttling": "AWS asks for fewer calls; try again in a minute",
    "SlowDown": "AWS asks for fewer calls; try again in a minute",
    "ResourceLimitExceeded": "ask for a higher quota (Service Quotas), or take another instance"
    " type",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}


def client(service: str, region: str | None = None, role: str | None = None) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """Return a client of an AWS service; $AWS_ENDPOINT_URL is honoured.

    It may be used by several threads. Making one takes a tenth of a second, so keep it.

    Args:
        service: As boto3 names it.
        region: Its region; boto3's own settings decide where it is not given.
        role: ARN of a role to work under; its credentials are renewed before they expire.

    Raises:
        BackendError: There is no such profile or region.
    """
    import boto3  # noqa: PLC0415 - 0.4 s
    import botocore.session  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=32,
    )
    with explained(f"{service}:*", "this account"):
        session = botocore.session.Session()
        if role:
            work_under(session, role, region)
        return boto3.Session(botocore_session=session, region_name=region or None).client(
            service, config=config
        )


def work_under(session: "Session", role: str, region: str | None) -> None:
    """Let a session take the credentials of a role, again and again before they expire."""
    from botocore import credentials, exceptions  # noqa: PLC0415 - see client
    from botocore.session import Session  # noqa: PLC0415

    caller = Session()
    own = caller.get_credentials()
    if own is None:
        raise exceptions.NoCredentialsError
    fetcher = credentials.AssumeRoleCredentialFetcher(
        # STS of the region: the global one may be closed to a VPC
        lambda service, **given: caller.create_client(service, **{"region_name": region} | given),
        own,
        role,
        extra_args={"RoleSessionName": "rookery"},
    )

    class OfTheRole(credentials.CredentialProvider):
        METHOD = "assume-role"

        def load(self) -> credentials.RefreshableCredentials:
            return credentials.DeferredRefreshableCredentials(
                fetcher.fetch_credentials, self.METHOD
            )

    session.register_component("credential_provider", credentials.CredentialResolver([OfTheRole()]))


@contextmanager
def explained(call: str, resource: str, kind: type[RookeryError] = BackendError) -> Iterator[None]:
    """Turn an error of AWS, or on the way there, into one line.

    Args:
        call: The API call, such as sagemaker:CreateEndpoint; as a policy names it.
        resource: What it is about, such as "endpoint penguins".
        kind: What is raised.

    Raises:
        RookeryError: Names the call, the resource, the reason, and what to do.
    """
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 - see client
    from botocore import exceptions  # noqa: PLC0415
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    try:
        yield
    except exceptions.ClientError as error:
        # any call can be the first one under a role
        if error.operation_name == "AssumeRole":
            call, resource = "sts:AssumeRole", "the role of AWS_ROLE or of the profile"
        parts = f"{call} of {resource}: {told(error)}", advice(error, call)
        raise kind("; ".join(filter(None, parts))) from error
    except exceptions.NoCredentialsError as error:
        raise kind(
            f"{call} of {resource}: there are no AWS credentials; set AWS_PROFILE, or run"
            " `just aws-setup`"
        ) from error
    except exceptions.NoRegionError as error:
        raise kind(f"{call} of {resource}: no region is given; set AWS_REGION") from error
    except (exceptions.BotoCoreError, ResponseParserError, Boto3Error) as error:
        reason = " ".join(str(error).split())
        raise kind(
            f"{call} of {resource}: {reason}; check AWS_PROFILE, AWS_REGION and the network"
        ) from error


def code(error: "ClientError") -> str:
    """Return the code of an error, such as AccessDeniedException."""
    return str(error.response.get("Error", {}).get("Code", ""))


def told(error: "ClientError") -> str:
    """Return what AWS says, in one line."""
    details = error.response.get("Error", {})
    return " ".join(f"{details.get('Code', '')}: {details.get('Message', '')}".split())


def advice(error: "ClientError", call: str) -> str:
    """Say what to do about an error; nothing where that is not known."""
    if code(error) in DENIED:
        return f"let whoever asks do {call} there, in an IAM policy or the bucket's"
    other = "check the settings of `backend:` in the config file"
    return ADVICE.get(code(error), other if call.startswith("sagemaker:") else "")
