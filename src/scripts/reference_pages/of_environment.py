"""The variables of .env.example."""

import re

from common import ROOT
from scripts.reference_pages.markdown import code, page, prose, table


def environment_page() -> str:
    """Describe the variables of .env.example."""
    parts = [
        (
            "`.env` at the root may hold these, one `NAME=value` on a line;"
            " [.env.example](../../.env.example) is there to be copied. What is set in the"
            " environment already wins. A value with spaces stands in quotes. What the file holds"
            " behind a `#` is the default, or an example."
        ),
    ]
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for section in re.split(r"^# --- ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        parts += [
            f"## {title.strip(' -')}",
            table(["variable", "as in the file", "meaning"], variables(body)),
        ]
    return page("Environment variables", *parts)


def variables(body: str) -> list[list[str]]:
    """Return name, value and meaning of each variable of a section."""
    rows = []
    for block in body.strip().split("\n\n"):
        lines = block.split("\n")
        assigned = [
            found for line in lines if (found := re.fullmatch(r"(?:# )?([A-Z_]+)=(.*)", line))
        ]
        said = " ".join(line.removeprefix("# ") for line in lines if not is_assignment(line))
        rows += [
            [code(one[1]), code(one[2]) if one[2] else "", f"{prose(said)}."] for one in assigned
        ]
    return rows


def is_assignment(line: str) -> bool:
    """Whether a line sets a variable, or would without its comment mark."""
    return re.fullmatch(r"(?:# )?[A-Z_]+=.*", line) is not None
