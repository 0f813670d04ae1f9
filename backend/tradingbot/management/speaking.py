"""What every command shares: who acts, how a refusal reads, how rows are printed."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, ProgrammingError

from backend.tradingbot.core.errors import InvalidInputError, TradingbotError


def operator() -> str:
    """Who acts, as the journal names it: ``operator:<login name>``."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = f"uid-{os.getuid()}"
    return f"operator:{name}"[:120]


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what a service refuses into one readable error and exit code 1; nothing was written."""
    try:
        yield
    except InvalidInputError as error:
        lines = [f"{item.field} {item.problem} (got {item.value!r}): {item.remedy}" for item in error.errors]
        raise CommandError("\n".join(lines)) from error
    except TradingbotError as error:
        remedy = error.remedy.rstrip(".")
        raise CommandError(f"{error.message}. {remedy}. [{error.code}]") from error
    except ProgrammingError as error:
        raise CommandError(f"the database is not set up: run manage.py migrate ({_first_line(error)})") from error
    except (OperationalError, InterfaceError) as error:
        raise CommandError(f"the database does not answer, see DATABASE_URL ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def symbols(text: str) -> list[str]:
    """``AAPL,MSFT`` as an option's type."""
    return [symbol.strip().upper() for symbol in text.split(",") if symbol.strip()]


def amount(text: str) -> Decimal:
    """An exact, finite amount as an option's type; the parser names the option when it raises."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(text)
    return value


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns; empty values as ``-``."""
    cells = [list(headers), *([str(value) if value not in (None, "") else "-" for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
