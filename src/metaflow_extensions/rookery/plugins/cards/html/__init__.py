"""A card type that shows an HTML artifact of the step as it is.

`@card(type="html", options={"artifact": "report_html"})` shows `self.report_html`.
"""

from typing import Any

from metaflow.cards import MetaflowCard

MISSING = "<!DOCTYPE html><title>No card</title><p>The step has no artifact {name!r}."


class HtmlCard(MetaflowCard):
    """Shows one artifact.

    Attributes:
        type: Name of the card type.
    """

    type = "html"

    def __init__(self, options: dict[str, Any] | None = None, **_: Any) -> None:  # noqa: ANN401 - Metaflow's signature
        self._artifact = (options or {}).get("artifact", "html")

    def render(self, task: Any) -> str:  # noqa: ANN401 - Metaflow's client has no static types
        """Return the artifact; the step itself must have escaped what is in it."""
        if self._artifact not in task:
            return MISSING.format(name=self._artifact)
        return task[self._artifact].data


CARDS = [HtmlCard]
