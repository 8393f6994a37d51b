"""Cells of text as columns: numbers, dates, or categories. A column is of numbers if all its cells are that are not missing."""
from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from tinydl.cli.errors import CommandError

Array = np.ndarray[Any, Any]

TRUTH = {"true": 1.0, "false": 0.0}
#: what stands for a missing value: what pandas takes for one (and None, which it writes), and a question mark
MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null", "?", "NaT"})
#: A column with more different numbers than this is taken for one of numbers where at least half of its cells are: a text in it
#: is an error then, and else a category. (Arbitrary: codes of a questionnaire are fewer, measurements more.)
FEW_NUMBERS = 20

DATE = re.compile(r"\d{4}([-/])\d\d\1\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?")
#: where points are written, the day is first
POINTED_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?: (\d\d:\d\d(?::\d\d)?))?")
OTHER_DATE = re.compile(r"\d{1,2}[./ -](\d{1,2}|[A-Za-z]{3,9})[./ -](\d{2}|\d{4})([ T,].*)?")
WHOLE = re.compile(r"([+-]?\d+)\.0+")
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?")      # 1.234.567,8
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")      # 1,234,567.8
LIKE_A_NUMBER = re.compile(r"[$€£]?\s*[+-]?\d[\d.,' ]*\s*%?")


@dataclass(frozen=True)
class Format:
    """How cells are written: decimal "." or ",", and what stands for a missing value besides MISSING."""

    decimal: str = "."
    missing: frozenset[str] = MISSING

    @cached_property
    def missing_numbers(self) -> list[float]:
        """Numbers that stand for a missing value, however they are written."""
        plain = Format(self.decimal, frozenset())
        return sorted({v for text in self.missing - MISSING if (v := plain.number(text)) is not None and v == v})

    def number(self, cell: str) -> float | None:
        """The number in a cell, NaN where it is missing; None where it is text. True and False, as pandas writes a column of
        bool, are 1 and 0."""
        cell = cell.strip()
        if cell in self.missing:
            return float("nan")
        if self.decimal == ",":
            if "." in cell:
                if not GROUPED.fullmatch(cell):
                    return None
                cell = cell.replace(".", "")
            cell = cell.replace(",", ".")
        lower = cell.lower()
        try:
            return float(TRUTH.get(lower, lower))
        except ValueError:
            return None


    def text(self, cell: str) -> str | None:
        """The category in a cell; None where it is missing. 3.0 is 3: so pandas writes whole numbers in a column with gaps."""
        cell = cell.strip()
        if cell in self.missing:
            return None
        whole = WHOLE.fullmatch(cell) if cell.endswith("0") else None
        cell = whole[1] if whole else cell
        return None if cell in self.missing else cell


@dataclass
class Bad:
    """A cell that cannot be taken."""

    row: int
    complaint: str


class Memo(dict[str, Any]):
    """What a cell is, computed once for cells that come often."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __missing__(self, cell: str) -> Any:
        value = self.function(cell)
        if len(self) < 50_000:
            self[cell] = value
        return value


@dataclass
class Cells:
    """One column while it is read, block by block.

    kind: "numbers", "categories" or "dates" where it is known; None where the cells say it, and then `late` tells afterwards that
    text came after a block of numbers: the file must be read again, with as_text.
    """

    name: str
    format: Format
    kind: str | None = None
    as_text: bool = False
    dated: bool = False
    late: bool = False
    bad: Bad | None = None
    n: int = 0
    numbers: array[float] = field(default_factory=lambda: array("d"))
    texts: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = self.kind is not None
        if self.as_text:
            self.kind = "categories"
        self._number = Memo(self.format.number)
        self._text = Memo(self.format.text)

    def add(self, cells: Sequence[str]) -> None:
        """A block."""
        if self.late or self.bad:
            return
        if self.kind in ("categories", "dates"):
            self.texts.extend(map(self._text.__getitem__, cells))
        else:
            values = self._numbers(cells)
            if values is None:
                self._not_numbers(cells)
                return
            self.numbers.extend(values)
        self.n += len(cells)

    def _numbers(self, cells: Sequence[str]) -> array[float] | None:
        if self.format.decimal == ".":
            try:
                return array("d", map(float, cells))        # nearly always
            except ValueError:
                pass
        try:
            return array("d", map(self._number.__getitem__, cells))
        except TypeError:       # None: text
            return None

    def _not_numbers(self, cells: Sequence[str]) -> None:
        if self.asked:
            at = next(i for i, cell in enumerate(cells) if self._number[cell] is None)
            self.bad = Bad(self.n + at, f"{short(cells[at].strip())} is not a number")
        elif self.n:
            self.late = True
        else:
            self.kind = "categories"
            self.add(cells)

    def column(self) -> Array:
        """float64 with NaN, objects with None, or datetime64 with NaT (n,); sets `bad` where a cell cannot be taken."""
        if self.kind in (None, "numbers"):
            x = np.array(self.numbers)
            if self.format.missing_numbers:
                x[np.isin(x, self.format.missing_numbers)] = np.nan
            infinite = np.isinf(x)
            if infinite.any():
                row = int(infinite.argmax())
                self.bad = Bad(row, f"{x[row]} is not a finite number: correct it, or say --missing={x[row]}")
            return x
        texts = np.array(self.texts, object)
        if self.kind == "dates" or not self.asked:
            dates = self._dates(texts)
            if dates is not None:
                return dates
            if not self.asked and self.bad is None:
                self._check_categories()
        return texts

    def _dates(self, texts: Array) -> Array | None:
        """Where all are dates as ISO 8601 writes them, or with / for -, or as 31.1.2026; those of a time zone as UTC has them."""
        counts = Counter(t for t in self.texts if t is not None)
        dates: dict[str | None, np.datetime64 | None] = {text: _date(text) for text in counts}
        n = sum(count for text, count in counts.items() if dates[text] is not None)
        if n < counts.total():
            row = next(i for i, text in enumerate(self.texts) if text is not None and dates[text] is None)
            text = short(str(self.texts[row]))
            if self.kind == "dates":
                self.bad = Bad(row, f"{text} is not a date such as 2026-01-31")
            elif 2 * n >= counts.total() and sum(date is not None for date in dates.values()) > FEW_NUMBERS:
                self.bad = Bad(row, f"{text} is not a date, as most cells of the column are: correct it, or say --missing "
                                    f"{text}, or --categorical {self.name!r} to take its values as categories")
            return None
        if not n:
            return None
        dates[None] = np.datetime64("NaT", "us")
        self.dated = True
        return np.array([dates[text] for text in self.texts], "datetime64[us]")

    def other_date(self) -> str | None:
        """The first of its cells, where all are dates as they cannot be read: which number is the day?"""
        plain = self.kind == "categories" and not self.asked and not self.dated
        texts = [t for t in self.texts if t is not None] if plain else []
        return texts[0] if texts and all(map(OTHER_DATE.fullmatch, texts)) else None

    def _check_categories(self) -> None:
        """Whether it is rather a column of numbers that has some text in it, or of numbers that are written otherwise."""
        counts = Counter(t for t in self.texts if t is not None)
        numbers = {t for t in counts if self._number[t] is not None}
        n, total = sum(counts[t] for t in numbers), counts.total()
        if len(numbers) > FEW_NUMBERS and 2 * n >= total:
            row = next(i for i, t in enumerate(self.texts) if t is not None and t not in numbers)
            text = short(str(self.texts[row]))
            self.bad = Bad(row, f"{text} is not a number, as most cells of the column are: correct it, or say --missing "
                                f"{text}, or --categorical {self.name!r} to take its values as categories")
            return
        like = [t for t in counts if LIKE_A_NUMBER.fullmatch(t) and t not in numbers and not OTHER_DATE.fullmatch(t)]
        if len(like) > FEW_NUMBERS and 2 * len(like) > len(counts):
            row = next(i for i, t in enumerate(self.texts) if t == like[0])
            category = f"--categorical {self.name!r}"
            self.bad = Bad(row, f"{short(like[0])} " + (
                f"has commas between its thousands, as it seems: write it without them, or say {category} (--decimal , would "
                "read one as the decimal point)" if all(map(THOUSANDS.fullmatch, like)) else
                f"looks like a number, and is none as it is written: write it plainly, or say --decimal , or {category}"))


def decimal_of(columns: Collection[Sequence[str]], separator: str) -> str:
    """"," where cells that are cut by another separator have decimals behind a comma, and none behind a point (but groups of
    three digits may stand behind points)."""
    if separator == ",":
        return "."
    comma = re.compile(r"\s*[+-]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][+-]?\d+)?\s*")
    point = re.compile(r"\s*(?![+-]?[1-9]\d{0,2}(\.\d{3})+\s*$)[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")
    cells = [cell for column in columns for cell in column]
    return "," if any(map(comma.fullmatch, cells)) and not any(map(point.fullmatch, cells)) else "."


def complain(name: str, where: str, cells: Cells) -> CommandError:
    assert cells.bad is not None
    return CommandError(f"{where}, column {name!r}: {cells.bad.complaint}")


def quoted(names: Sequence[str]) -> str:
    shown = ", ".join(map(short, names[:8]))
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _date(text: str) -> np.datetime64 | None:
    """None where it is no date, as 2026-02-30."""
    match, pointed = DATE.fullmatch(text), POINTED_DATE.fullmatch(text)
    if pointed is not None:
        day, month, year, time = pointed.groups()
        text = f"{year}-{month:0>2}-{day:0>2}" + (f"T{time}" if time else "")
    elif match is None:
        return None
    text = text.replace("/", "-")
    try:
        if match is not None and match["zone"]:
            return np.datetime64(datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None), "us")
        return np.datetime64(text, "us")
    except (ValueError, OverflowError):
        return None
