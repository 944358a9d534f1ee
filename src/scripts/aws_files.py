"""Editing files that belong to somebody else: their lines stay as they are, byte for byte.

Whatever changes several files first works out what each is to hold, and then writes all or none.
"""

import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from inference.errors import ConfigurationError

BACKUP = ".before-rookery"
# what a value may hold in .env without quotes, for just and python-dotenv alike
PLAIN = re.compile(r"[\w./:@+=,-]*")


@dataclass(frozen=True)
class Edit:
    """What a file holds, and what it is to hold; None where it is not there.

    Attributes:
        path: The file itself, behind links.
        touched: Whether it was changed by an earlier run, so that what it holds is not as it was.
    """

    path: Path
    before: str | None
    after: str | None
    touched: bool = False

    @classmethod
    def open(cls, path: Path) -> "Edit":
        """Read a file that is not changed yet.

        Raises:
            ConfigurationError: It cannot be read, or could not be written.
        """
        path = path.expanduser().resolve()
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: cannot be read ({error})") from error
        folder = next(folder for folder in path.parents if folder.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise ConfigurationError(f"{path}: cannot be written; its folder must be yours")
        return cls(path, before, before)

    @property
    def text(self) -> str:
        """What it is to hold, so far."""
        return self.after or ""

    @property
    def backup(self) -> Path:
        """Where what it held is kept, the first time that it is changed."""
        return self.path.with_name(self.path.name + BACKUP)

    def original(self) -> str:
        """What it held before it was changed the first time."""
        return self.backup.read_text(encoding="utf-8") if self.backup.exists() else ""

    def to(self, after: str) -> "Edit":
        """Return the edit with another outcome; a file that would be left empty goes."""
        return replace(self, after=after or None)


def commit(edits: Sequence[Edit]) -> list[Path]:
    """Write all edits, or none of them; return the files that changed.

    Each is replaced in one move and readable by its owner only. What one held before it was changed
    the first time is kept beside it.

    Raises:
        ConfigurationError: One cannot be written; all hold what they held.
    """
    changed = [edit for edit in edits if edit.before != edit.after]
    staged: dict[Path, Path] = {}
    done: list[Edit] = []
    backups: list[Path] = []
    try:
        for edit in changed:
            edit.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if edit.before is not None and not edit.touched and not edit.backup.exists():
                backups.append(edit.backup)
                _stage(edit.before, edit.backup).replace(edit.backup)
            if edit.after is not None:
                staged[edit.path] = _stage(edit.after, edit.path)
        for edit in changed:
            if edit.after is None:
                edit.path.unlink()
            else:
                staged[edit.path].replace(edit.path)
            done.append(edit)
    except OSError as error:
        for edit in done:
            _restore(edit)
        for file in backups:
            file.unlink(missing_ok=True)
        name = error.filename2 or error.filename
        raise ConfigurationError(
            f"{name}: cannot be written ({error.strerror}); no file was changed"
        ) from error
    finally:
        for file in staged.values():
            file.unlink(missing_ok=True)
    return [edit.path for edit in changed]


def _stage(text: str, path: Path) -> Path:
    """Write a text beside the place that it is meant for; only its owner can read it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    return Path(name)


def _restore(edit: Edit) -> None:
    if edit.before is None:
        edit.path.unlink(missing_ok=True)
    else:
        _stage(edit.before, edit.path).replace(edit.path)


def forget(edits: Sequence[Edit]) -> None:
    """Remove the copies of files that are now what they were before they were changed."""
    for edit in edits:
        if edit.backup.exists() and edit.original() == edit.text:
            edit.backup.unlink()


# --- .env ---


def set_variables(text: str, values: Mapping[str, str]) -> str:
    """Set variables in a .env: those that are there in their place, the others at its end."""
    lines, left = [], dict(values)
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original.string
        if binding.key is None or binding.key not in values:
            lines.append(original)
            continue
        value = values[binding.key]
        left.pop(binding.key, None)
        same = binding.value == value
        lines.append(original if same else _leading(original) + _line(binding.key, value))
    if left and lines and not lines[-1].endswith("\n"):
        lines.append("\n")
    return "".join([*lines, *(_line(name, value) for name, value in left.items())])


def drop_variables(text: str, values: Mapping[str, str | None]) -> str:
    """Remove variables from a .env where they have these values; None stands for any."""
    return "".join(
        _leading(binding.original.string) if _is_one(binding, values) else binding.original.string
        for binding in parse_stream(io.StringIO(text))
    )


def variables(text: str) -> dict[str, str]:
    """Read a .env."""
    return {b.key: b.value or "" for b in parse_stream(io.StringIO(text)) if b.key is not None}


def _is_one(binding: Any, values: Mapping[str, str | None]) -> bool:  # noqa: ANN401 - python-dotenv's own
    return binding.key in values and values[binding.key] in (None, binding.value)


def _leading(original: str) -> str:
    """Return the empty lines that python-dotenv counts to the variable after them."""
    return original[: len(original) - len(original.lstrip("\n"))]


def _line(name: str, value: str) -> str:
    return f"{name}={value}\n" if PLAIN.fullmatch(value) else f"{name}='{value}'\n"


# --- AWS's credentials and config ---


def set_section(text: str, name: str, values: Mapping[str, str]) -> str:
    """Set keys of a section: those that are there in their place, the others at its head."""
    lines = text.splitlines(keepends=True)
    place = _section(lines, name)
    if place is None:
        head = [text, "" if text.endswith("\n") or not text else "\n", "\n" if text else ""]
        return "".join([*head, f"[{name}]\n", *(f"{k} = {v}\n" for k, v in values.items())])
    start, end = place
    left = dict(values)
    for number in range(start + 1, end):
        key, value = _pair(lines[number])
        if key in left:
            wanted = left.pop(key)
            if value != wanted:
                lines[number] = f"{key} = {wanted}\n"
    lines[start + 1 : start + 1] = [f"{key} = {value}\n" for key, value in left.items()]
    return "".join(lines)


def drop_section(text: str, name: str, keys: Sequence[str]) -> str:
    """Remove keys of a section, and the section where nothing else stands in it."""
    lines = text.splitlines(keepends=True)
    place = _section(lines, name)
    if place is None:
        return text
    start, end = place
    kept = [line for line in lines[start + 1 : end] if _pair(line)[0] not in keys]
    if any(line.strip() for line in kept):
        lines[start + 1 : end] = kept
    else:
        # with the empty line before it that came with it
        first = start - 1 if start and not lines[start - 1].strip() else start
        lines[first:end] = kept
    return "".join(lines)


def section(text: str, name: str) -> dict[str, str]:
    """Read the keys of a section; none where there is no such section."""
    lines = text.splitlines()
    place = _section(lines, name)
    pairs = [_pair(line) for line in lines[place[0] + 1 : place[1]]] if place else []
    return {key: value for key, value in pairs if key}


def _section(lines: Sequence[str], name: str) -> tuple[int, int] | None:
    """Find a section: the number of its first line, and that of the next section's."""
    heads = [number for number, line in enumerate(lines) if line.startswith("[")]
    for place, start in enumerate(heads):
        if lines[start].partition("]")[0].strip("[ \t") == name:
            return start, heads[place + 1] if place + 1 < len(heads) else len(lines)
    return None


def _pair(line: str) -> tuple[str, str]:
    """Split `key = value`; a comment or a nested key has no key."""
    if line[:1] in "#; \t\r\n":
        return "", ""
    key, _, value = line.partition("=")
    return key.strip(), value.strip()


# --- JSON ---


def read_json(edit: Edit) -> dict[str, Any]:
    """Read an object.

    Raises:
        ConfigurationError: The file holds something else.
    """
    try:
        content = json.loads(edit.text or "{}")
    except ValueError as error:
        raise ConfigurationError(f"{edit.path}: not JSON ({error}); repair or move it") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{edit.path}: expected a JSON object; repair or move it")
    return content


def set_keys(edit: Edit, values: Mapping[str, str]) -> Edit:
    """Set keys of an object in JSON."""
    content = read_json(edit)
    wanted = {**content, **values}
    return edit if content == wanted else edit.to(_json(wanted))


def drop_keys(edit: Edit, values: Mapping[str, str | None]) -> Edit:
    """Remove keys where they have these values; None stands for any."""
    content = read_json(edit)
    kept = {k: v for k, v in content.items() if k not in values or values[k] not in (None, v)}
    return edit if kept == content else edit.to(_json(kept) if kept else "")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=4) + "\n"
