"""The one error family: each says what happened, where, and what to do about it."""

from typing import Any, ClassVar

SHOWN_PROBLEMS = 20


class RookeryError(Exception):
    """Base of every error that this project raises on purpose.

    Attributes:
        status: HTTP status with which the service answers when this error ends a request.
        code: Machine-readable name of the kind of error.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def answer(self) -> dict[str, Any]:
        """Return the JSON body that the service sends for this error."""
        return {"error": {"code": self.code, "message": str(self)}}


class ConfigurationError(RookeryError):
    """A setting is missing, unknown or of the wrong type."""

    code = "configuration"


class DatasetError(RookeryError):
    """The table cannot be read, or does not fit its description."""

    code = "dataset"


class RegistryError(RookeryError):
    """The model registry cannot be reached, or does not hold what was asked for."""

    code = "registry"


class ModelError(RookeryError):
    """A model's files cannot be loaded, or its two engines disagree."""

    code = "model"


class BackendError(RookeryError):
    """The backend could not do what it was asked to."""

    code = "backend"


class AgentError(RookeryError):
    """An agent's model did not answer, or not within its limits."""

    code = "agent"


class RetrievalError(RookeryError):
    """The index of documents cannot be made or used, or an embedding model does not answer."""

    code = "retrieval"


class MalformedRequestError(RookeryError):
    """A request body is not in any of the formats that the service reads."""

    status = 400
    code = "malformed"


class UnauthorizedError(RookeryError):
    """A request carries no valid token."""

    status = 401
    code = "unauthorized"


class TooLargeError(RookeryError):
    """A request holds more bytes or rows than the limits allow."""

    status = 413
    code = "too_large"


class UnsupportedFormatError(RookeryError):
    """A request's content type, charset or encoding is not one the service reads."""

    status = 415
    code = "unsupported_format"


class InvalidRecordsError(RookeryError):
    """Records do not fit the schema.

    Attributes:
        problems: One entry for each value that does not fit: row, column, value, expected.
    """

    status = 422
    code = "invalid_records"

    def __init__(self, problems: list[dict[str, Any]], unseen_from: int | None = None) -> None:
        self.problems = problems
        first = problems[0]
        place = ", ".join(f"{key} {first[key]!r}" for key in ("row", "column") if key in first)
        got = f", not {first['value']!r}" if "value" in first else ""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        rest = f"; rows from {unseen_from} on were not looked at" if unseen_from else ""
        super().__init__(f"{place}: {first['expected']}{got}{more}{rest}")

    def answer(self) -> dict[str, Any]:
        """Return the JSON body, with the first problems one by one."""
        body = super().answer()
        body["error"]["problems"] = self.problems[:SHOWN_PROBLEMS]
        return body


class UnavailableError(RookeryError):
    """The service cannot answer now; the same request may succeed later."""

    status = 503
    code = "unavailable"


class OverloadedError(UnavailableError):
    """As many requests wait already as the service lets wait; others may be answered at once."""

    code = "overloaded"
