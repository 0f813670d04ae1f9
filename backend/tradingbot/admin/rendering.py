"""How values look: exact decimals without trailing zeros, facts as a table, a decision gate by gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib.admin import display
from django.db.models import DecimalField, Field, JSONField
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from backend.tradingbot.core.values import plain

VARIANTS = {True: "success", False: "danger"}


def label(text: str, variant: str = "") -> SafeString:
    """A small coloured badge: success, danger, warning, info or none."""
    return SafeString(render_to_string("unfold/helpers/label.html", {"text": text, "variant": variant}))


def facts(values: Any, depth: int = 0) -> SafeString | str:
    """A JSON value as a table of names and values, a table in a table at most; what lies deeper as indented JSON."""
    nested = isinstance(values, Mapping) or (isinstance(values, list | tuple) and any(map(_is_nested, values)))
    if not values or not nested:
        return ", ".join(map(_text, values)) or "-" if isinstance(values, list | tuple | Mapping) else _text(values)
    if depth > 1 or not isinstance(values, Mapping):
        return folded(values)
    rows = [(capfirst(str(name).replace("_", " ")), facts(value, depth + 1)) for name, value in values.items()]
    return SafeString(render_to_string("admin/tradingbot/facts.html", {"rows": rows}))


def folded(values: Any) -> SafeString | str:
    """A JSON value as indented text that opens on a click."""
    if not values:
        return "-"
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    return format_html(
        '<details class="folded"><summary>{} {}</summary><pre>{}</pre></details>',
        len(values), "entries" if isinstance(values, list | tuple) else "fields", text,
    )  # fmt: skip


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(plain(value)) if isinstance(value, Decimal) else str(value)


def shown(field: Field) -> str | Callable[[Any], Any]:
    """What the admin lists for a model's field: its name, or a callable where Django's own way reads badly."""
    name = field.name
    if isinstance(field, DecimalField):

        @display(description=capfirst(field.verbose_name), ordering=name, empty_value="-")
        def decimal_of(row: Any) -> str | None:
            return plain(getattr(row, name))

        return decimal_of
    if isinstance(field, JSONField):

        @display(description=capfirst(field.verbose_name))
        def facts_of(row: Any) -> SafeString | str:
            return facts(getattr(row, name))

        return facts_of
    return name


def decision_table(decision: Mapping[str, Any]) -> dict[str, Any]:
    """The stored decision as headers and rows for the table component; what failed comes first."""
    checks = sorted(decision.get("checks", []), key=lambda check: bool(check.get("passed")))
    return {
        "headers": ["Gate", "Answer", "Value", "Limit", "Headroom", "What it says, and what to do"],
        "rows": [
            [
                format_html('<span class="font-mono text-important">{}</span>', check.get("gate", "?")),
                _answer(check),
                *(grouped(_text(check.get(name))) for name in ("value", "limit", "headroom")),
                _words(check),
            ]
            for check in checks
        ],
    }


def grouped(text: str) -> str:
    """A number with its thousands apart and every digit kept; any other text as it is."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return f"{number:,f}" if number.is_finite() else text


def _words(check: Mapping[str, Any]) -> SafeString | str:
    """The gate's message, and below it the remedy; a column of its own would be too narrow to read."""
    message, remedy = _text(check.get("message")), str(check.get("remedy") or "")
    if not remedy:
        return message
    return format_html('<div>{}<p class="remedy">{}.</p></div>', message, remedy[:1].upper() + remedy[1:].rstrip("."))


def _answer(check: Mapping[str, Any]) -> SafeString:
    passed, code = check.get("passed") is True, str(check.get("code", ""))
    return label(code or ("passed" if passed else "failed"), VARIANTS[passed] if code != "not_required" else "")
