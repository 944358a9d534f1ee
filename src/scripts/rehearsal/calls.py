"""Which service and action a request to AWS means."""

import io
import re
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl

from werkzeug.wrappers import Request

# AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, …
CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
CBOR_PATH = re.compile(r"/service/[^/]+/operation/(\w+)")
# services whose botocore name is not the one in the signature
MODELS = {"sagemaker": "sagemaker-runtime"}


class Call(NamedTuple):
    """A signed request.

    Attributes:
        key: Access key id that signed it.
        region: Region that it is for.
        service: Name of the service in the signature, such as s3 or monitoring.
        action: Such as PutObject; empty where it is not known.
    """

    key: str
    region: str
    service: str
    action: str

    @classmethod
    def of(cls, request: Request) -> "Call | None":
        """Read it from a request; None if that is not signed."""
        found = CREDENTIAL.search(request.headers.get("Authorization", ""))
        if not found:
            return None
        key, region, service = found.groups()
        return cls(key, region, service, action_of(service, request))


def action_of(service: str, request: Request) -> str:
    """Find the action in the header, the path, the form, or by the method and path of REST."""
    if target := request.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if found := CBOR_PATH.fullmatch(request.path):
        return found[1]
    if request.mimetype == "application/x-www-form-urlencoded":
        body = request.get_data(parse_form_data=False)
        # moto reads it again
        request.environ["wsgi.input"] = io.BytesIO(body)
        return parse_qs(body.decode()).get("Action", [""])[0]
    query = dict(parse_qsl(request.query_string.decode(), keep_blank_values=True))
    for method, path, fixed, needed, headers, name in rest_actions(service):
        if (
            method == request.method
            and path.fullmatch(request.path)
            and fixed.items() <= query.items()
            and needed <= query.keys()
            and all(header in request.headers for header in headers)
        ):
            return name
    return ""


@cache
def rest_actions(service: str) -> list[tuple[str, re.Pattern[str], dict[str, str], set, set, str]]:
    """List a REST service's actions by what their requests look like, the most particular first.

    Returns:
        Method, path, fixed parameters, names of parameters and headers that a request must have,
        and the action's name.
    """
    from botocore.exceptions import UnknownServiceError  # noqa: PLC0415 - 0.3 s
    from botocore.loaders import Loader  # noqa: PLC0415 - 0.3 s

    try:
        model: dict[str, Any] = Loader().load_service_model(
            MODELS.get(service, service), "service-2"
        )
    except UnknownServiceError:
        return []
    actions = []
    for name, operation in model["operations"].items():
        path, _, query = operation["http"]["requestUri"].partition("?")
        shape = model["shapes"].get(operation.get("input", {}).get("shape"), {})
        required = [
            (member.get("location"), member.get("locationName"))
            for key, member in shape.get("members", {}).items()
            if key in shape.get("required", ())
        ]
        pattern = re.sub(r"\\\{\w+\\\+\\\}", ".+", re.escape(path))
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        actions.append(
            (
                operation["http"]["method"],
                re.compile(pattern + "/?"),
                dict(parse_qsl(query, keep_blank_values=True)),
                {place for kind, place in required if kind == "querystring"},
                {place for kind, place in required if kind == "header"},
                name,
            )
        )
    return sorted(actions, key=lambda action: -sum(map(len, action[2:5])))
