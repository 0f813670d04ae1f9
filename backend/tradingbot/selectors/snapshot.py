"""Many questions to the database in one statement: one round trip, and all answers from the same snapshot.

A question is a queryset of ``values(...)``; its answer is a list of dicts by those names. It is compiled once a
process, so it must depend on nothing that changes: ask for moments and reckon their age, or compare with the database's
``Now()``. Answers come as JSON: a moment is text (see :func:`moment`), a number with a fraction a Decimal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection
from django.db.models import QuerySet

Question = Callable[[], QuerySet[Any, Any]]
Rows = list[dict[str, Any]]
Name = TypeVar("Name", str, tuple[str, str])


def ask(questions: Mapping[Name, Question]) -> dict[Name, Rows]:
    """The answer to each of ``questions`` under its name; ``DatabaseError`` when one of them cannot be answered."""
    if not questions:
        return {}
    compiled = [_compiled(question) for question in questions.values()]
    statement = "SELECT " + ", ".join(sql for sql, _ in compiled)
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for _, values in compiled for value in values])
        answers = cursor.fetchone()
    return {name: json.loads(text, parse_float=Decimal) for name, text in zip(questions, answers, strict=True)}


def moment(text: str) -> datetime:
    """A moment of an answer."""
    return datetime.fromisoformat(text)


@lru_cache(maxsize=128)
def _compiled(question: Question) -> tuple[str, tuple[Any, ...]]:
    sql, values = question().query.sql_with_params()
    return f"(SELECT coalesce(json_agg(answer), '[]'::json)::text FROM ({sql}) AS answer)", values
