"""What a service promises about its captures, and what it refuses."""

from typing import Literal

from pydantic import Field

from inference.schema import Strict

# Where it is set, a client must send it to get predictions.
TOKEN_VARIABLE = "SERVING_TOKEN"  # noqa: S105 - the variable's name


class Limits(Strict):
    """The keys of a config file's `backend:` section that a server's workers need as well.

    Attributes:
        capture_sync: normal survives the death of any process, full also a power cut.
        retention_days: Captured rows that are older are removed; none unless it is set.
        max_bytes: Largest request body.
        max_rows: Most rows in a request.
        max_waiting: Requests that a worker lets wait; it refuses what comes beyond them.
        timeout: Seconds in which a request must be sent and answered.
    """

    capture_sync: Literal["normal", "full"] = "normal"
    retention_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_bytes: int = Field(default=5_000_000, gt=0)
    max_rows: int = Field(default=10_000, gt=0)
    max_waiting: int = Field(default=200, gt=0)
    timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)
