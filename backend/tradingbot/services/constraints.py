"""The constraint decides, and its name picks the error: no check before the insert can be trusted under a race."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.db import IntegrityError, transaction

from backend.tradingbot.core.errors import TradingbotError


@contextmanager
def refused_by(errors: Mapping[str, TradingbotError]) -> Iterator[None]:
    """Turn the violation of a constraint named in ``errors`` into its error; any other violation passes through.

    The block runs in a savepoint, so that the caller's transaction survives the refusal.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError as violation:
        diagnosis = getattr(violation.__cause__, "diag", None)
        found = errors.get(getattr(diagnosis, "constraint_name", None) or "")
        if found is None:
            raise
        raise found from violation
