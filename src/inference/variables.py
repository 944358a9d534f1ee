"""What .env must not hold: just, shells and python-dotenv all read it, each in its own way."""

import re
from pathlib import Path

from dotenv.parser import parse_stream

# ${NAME} means the same to all of them
DOLLAR = re.compile(r"\$(?!\{)")


def replaced_by_shells(file: Path) -> list[str]:
    """Return the names of variables whose value has a $ that just and shells would replace.

    A token becomes a shorter one, or none at all, where what follows the $ is no variable's name;
    and just has set it by the time that this project reads the file.
    """
    with file.open(encoding="utf-8") as stream:
        return [
            str(binding.key)
            for binding in parse_stream(stream)
            if DOLLAR.search(binding.value or "")
            and not binding.original.string.partition("=")[2].lstrip().startswith("'")
        ]
