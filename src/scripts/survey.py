"""What the columns of a CSV file hold, as far as their cells tell."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from inference.schema import MAX_NUMBER, MAX_TEXT, RESERVED
from inference.wire import number

# More different texts than this are names or free text, not categories.
MAX_CATEGORIES = 300
# A text that is a category occurs this often, on average.
MIN_REPEATS = 3
# So many different whole numbers, or fewer, may be names of something.
FEW_NUMBERS = 10
# A column with a few cells that are no numbers is one of numbers all the same.
MIN_NUMBERS = 0.95
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
LEADING_ZERO = re.compile(r"0\d+")
UNIT = re.compile(
    r"(?:_|\s*[(\[]|,?\s+)(kg|g|mg|t|lb|mm|cm|m|km|s|ms|min|h|°C|°F|%|€|\$|£|W|kW|V|A|Hz|Pa|hPa|l|ml)[)\]]?$"
)


@dataclass(frozen=True)
class Column:
    """What one column holds.

    Attributes:
        name: As the header spells it.
        kind: number, category, or nothing where the column says why it is left out.
        note: What is unsure about it, or why it is left out.
        low: Lower limit of a number.
        high: Upper limit of a number.
        unit: Unit of a number, if the name ends in one.
        categories: Different texts, in the order of the alphabet.
    """

    name: str
    kind: str = ""
    note: str = ""
    low: float = 0.0
    high: float = 0.0
    unit: str | None = None
    categories: tuple[str, ...] = ()


def survey(name: str, cells: Sequence[str]) -> Column:
    """Look at a column.

    Args:
        name: Its name.
        cells: Its cells without those that are missing.
    """
    if name in RESERVED or not name.strip():
        return Column(name, note="captured rows have a column of this name: rename it in the file")
    different = Counter(cells)
    if not different:
        return Column(name, note="it is empty")
    if len(different) == 1:
        return Column(name, note=f"it is always {cells[0][:40]!r}")
    numbers = [value for cell in cells if isinstance(value := number(cell), float)]
    finite = [value for value in numbers if abs(value) <= MAX_NUMBER]
    coded = any(LEADING_ZERO.fullmatch(cell) for cell in different)
    if len(finite) >= MIN_NUMBERS * len(cells) and not coded:
        return survey_numbers(name, cells, finite, len(different))
    return survey_texts(name, different, len(cells))


def survey_numbers(name: str, cells: Sequence[str], numbers: list[float], different: int) -> Column:
    """Look at a column of numbers."""
    whole = all(value.is_integer() for value in numbers)
    if whole and different == len(cells) and len(cells) > FEW_NUMBERS and counts_up(numbers):
        return Column(name, note="it counts the rows")
    low, high = limits(min(numbers), max(numbers))
    notes = [f"{min(numbers):g} to {max(numbers):g} in the file"]
    if whole and different <= FEW_NUMBERS:
        notes.append(f"{different} different whole numbers: a category, if they are names")
    if strange := [cell for cell in cells if not isinstance(number(cell), float)]:
        share = f"{len(strange)} of {len(cells)} cells"
        notes.append(f"no number in {share}, such as {strange[0][:20]!r}")
    unit = UNIT.search(name)
    return Column(name, "number", "; ".join(notes), low, high, unit[1] if unit else None)


def survey_texts(name: str, different: Counter[str], cells: int) -> Column:
    """Look at a column of texts."""
    if all(DATE.fullmatch(text) for text in different):
        return Column(name, note="it holds dates: a network learns from figures made of them")
    if max(map(len, different)) > MAX_TEXT:
        return Column(name, note=f"it holds texts of more than {MAX_TEXT} characters")
    if len(different) > MAX_CATEGORIES or cells < MIN_REPEATS * len(different):
        return Column(name, note=f"{len(different)} different texts in {cells} cells: names or ids")
    once = sum(count == 1 for count in different.values())
    note = f"{once} of {len(different)} occur once only" if once else ""
    return Column(name, "category", note, categories=tuple(sorted(different)))


def counts_up(numbers: Sequence[float]) -> bool:
    """Whether each number is the one before it and 1."""
    return all(after - before == 1 for before, after in pairwise(numbers))


def limits(smallest: float, largest: float) -> tuple[float, float]:
    """Return limits as far again beyond the figures as these lie apart, in round numbers.

    What is never negative in the file stays so.
    """
    span = largest - smallest
    step = 10 ** math.floor(math.log10(span))
    low = math.floor((smallest - span) / step) * step
    high = math.ceil((largest + span) / step) * step
    if smallest >= 0:
        low = max(low, 0.0)
    # 3 * 0.1 is not 0.3
    low, high = float(f"{low:.12g}"), float(f"{high:.12g}")
    return max(low, -MAX_NUMBER), min(high, MAX_NUMBER)
