"""What an endpoint answered, read by a client."""

from typing import Any

import orjson

from inference.errors import BackendError

SHOWN = 500


def read_predictions(body: bytes, count: int, where: str) -> list[dict[str, Any]]:
    """Return the predictions of a good answer.

    Args:
        body: The answer.
        count: Number of records that were sent.
        where: Who answered.

    Raises:
        BackendError: It holds no predictions, or not one for each record.
    """
    try:
        predictions = orjson.loads(body)["predictions"]
    except (ValueError, KeyError, TypeError):
        predictions = None
    if not isinstance(predictions, list):
        raise BackendError(
            f"{where} answered what is not a prediction: {message(body)[:100]!r}; does another"
            " service listen there?"
        )
    if len(predictions) != count:
        raise BackendError(
            f"{where} answered with {len(predictions)} predictions for {count} record(s)"
        )
    return predictions


def message(body: bytes) -> str:
    """Return the endpoint's own reason, whatever form its error has."""
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(body.decode(errors="replace").split())[:SHOWN]
