"""Faults: calls that fail because a test or a rehearsal asked for it."""

import threading
from typing import Any

from pydantic import Field

from inference.schema import Strict
from scripts.rehearsal.answers import AwsError
from scripts.rehearsal.calls import Call


class Fault(Strict):
    """Calls that are to fail.

    Attributes:
        service: Name of the service in a signature, such as s3, sagemaker or sts.
        action: Such as PutObject or InvokeEndpoint.
        code: AWS's name of the error.
        message: What AWS says of it.
        status: HTTP status.
        times: How many of the next such calls fail; -1 for all.
    """

    service: str
    action: str
    code: str
    message: str = "asked for by the rehearsal"
    status: int = Field(default=400, ge=400, le=599)
    times: int = Field(default=1, ge=-1)


class Faults:
    """The faults that were asked for and have not happened yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: list[tuple[Fault, int]] = []

    def add(self, content: dict[str, Any]) -> None:
        """Add one.

        Raises:
            ValueError: The description is wrong.
        """
        fault = Fault.model_validate(content)
        if fault.times:
            with self._lock:
                self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._left.clear()

    def strike(self, call: Call) -> None:
        """Fail if this call is to fail.

        Raises:
            AwsError: As was asked for.
        """
        with self._lock:
            for place, (fault, left) in enumerate(self._left):
                if (fault.service, fault.action) == (call.service, call.action):
                    self._left[place] = (fault, left - (left > 0))
                    if left == 1:
                        del self._left[place]
                    raise AwsError(fault.code, fault.message, fault.status)
