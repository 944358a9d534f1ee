"""What AWS answers when a call fails, in the format of each of its protocols."""

import json
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

JSON_TYPE = "application/x-amz-json-1.1"


class AwsError(Exception):
    """A call that fails as AWS lets it fail.

    Attributes:
        code: AWS's name of the error, such as ValidationException.
        message: What AWS says of it.
        status: HTTP status.
        more: Further members of the error's body.
    """

    def __init__(self, code: str, message: str, status: int = 400, **more: Any) -> None:  # noqa: ANN401 - JSON
        super().__init__(message)
        self.code, self.message, self.status, self.more = code, message, status, more


def invalid(message: str) -> AwsError:
    """Return the error of nearly every SageMaker call that is refused."""
    return AwsError("ValidationException", message)


def as_json(content: dict[str, Any]) -> Response:
    """Answer with JSON; times are seconds since the epoch, as in AWS's JSON protocol."""
    return Response(json.dumps(content), content_type=JSON_TYPE)


def failure(error: AwsError, service: str, request: Request) -> Response:
    """Write an error as the protocol of the request has it.

    Args:
        error: What went wrong.
        service: Name of the service in the signature.
        request: The request that fails.
    """
    # what is not read would be taken for the next request on this connection
    request.get_data()
    code, message, number = error.code, error.message, str(uuid4())
    headers = {"x-amzn-RequestId": number, "x-amz-request-id": number}
    if "Smithy-Protocol" in request.headers:
        body = b"\xa2" + b"".join(map(_cbor, ("__type", code, "message", message)))
        headers |= {"Smithy-Protocol": request.headers["Smithy-Protocol"]}
        return Response(body, error.status, headers, content_type="application/cbor")
    if service == "s3":
        inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        return _xml(f"<Error>{inner}<RequestId>{number}</RequestId></Error>", error, headers)
    if request.mimetype == "application/x-www-form-urlencoded":
        inner = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        outer = ("Response", "Errors") if service == "ec2" else ("ErrorResponse", "")
        inner = f"<{outer[1]}>{inner}</{outer[1]}>" if outer[1] else inner
        inner += f"<RequestId>{number}</RequestId>"
        return _xml(f"<{outer[0]}>{inner}</{outer[0]}>", error, headers)
    body = json.dumps({"__type": code, "message": message, "Message": message, **error.more})
    headers["x-amzn-ErrorType"] = code
    return Response(body, error.status, headers, content_type=JSON_TYPE)


def _xml(text: str, error: AwsError, headers: dict[str, str]) -> Response:
    return Response(text, error.status, headers, content_type="text/xml")


def _cbor(text: str) -> bytes:
    """Encode a text in CBOR (RFC 8949, major type 3 with a length of two bytes)."""
    raw = text.encode()
    return b"\x79" + len(raw).to_bytes(2, "big") + raw
