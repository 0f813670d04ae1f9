"""A model instance as columns and adapted values, for the few statements of the order path that the ORM cannot write.

Invariant: the columns come from the model itself, so that a new field is saved here without anyone remembering it.
"""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import Model


def columns_and_values(instance: Model, *, leave_out: frozenset[str] = frozenset()) -> tuple[list[str], list[Any]]:
    """Every stored column but the primary key and ``leave_out`` (field names), with its value as it is sent."""
    fields = [f for f in instance._meta.concrete_fields if not f.primary_key and f.name not in leave_out]
    return [str(f.column) for f in fields], [
        f.get_db_prep_save(getattr(instance, f.attname), connection) for f in fields
    ]


def insert_sql(instance: Model) -> tuple[str, list[Any]]:
    """``INSERT INTO table (columns) VALUES (...)`` without an end, so that the caller says what a conflict means."""
    columns, values = columns_and_values(instance)
    marks = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {instance._meta.db_table} ({', '.join(columns)}) VALUES ({marks})", values


def update_sql(instance: Model, *, leave_out: frozenset[str] = frozenset()) -> tuple[str, list[Any]]:
    """``UPDATE table SET ... WHERE primary key = ...`` without an end."""
    columns, values = columns_and_values(instance, leave_out=leave_out)
    assignments = ", ".join(f"{column} = %s" for column in columns)
    key = instance._meta.pk
    assert key is not None
    statement = f"UPDATE {instance._meta.db_table} SET {assignments} WHERE {key.column} = %s"
    return statement, [*values, instance.pk]
