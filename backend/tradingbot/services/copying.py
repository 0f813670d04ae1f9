"""Frames into PostgreSQL by COPY, inside the caller's transaction."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
from django.db import connection
from django.db.models import Model


def copy_in(model: type[Model], data: pl.DataFrame, **same: Any) -> int:
    """Insert every row of ``data`` into the table of ``model``; ``same`` are columns with one value for all rows.

    Null text becomes an empty one where the column is not nullable, as Django keeps it.
    """
    if not data.height:
        return 0
    fields = {field.column: field for field in model._meta.concrete_fields}
    rows = data.with_columns(pl.lit(value).alias(name) for name, value in same.items())
    blank = [name for name, kind in rows.schema.items() if kind == pl.String and not fields[name].null]
    rows = rows.with_columns(pl.col(name).fill_null("") for name in blank)
    buffer = io.BytesIO()
    rows.write_csv(buffer, include_header=False, null_value="\\N", datetime_format="%Y-%m-%dT%H:%M:%S%.6f%z")
    columns = ", ".join(f'"{name}"' for name in rows.columns)
    statement = f"COPY {model._meta.db_table} ({columns}) FROM STDIN (FORMAT csv, NULL '\\N')"
    with connection.cursor() as cursor, cursor.copy(statement) as sink:
        sink.write(buffer.getbuffer())
    return rows.height
