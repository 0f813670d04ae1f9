"""The rules that reconciliation goes by, in versions: who changed which, when and why.

Invariants: a version never changes; without any, the built-in rules hold, under which every break blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import Account, CsvMappingVersion, ReconPolicy
from backend.tradingbot.ops.fee_schedule import FeeSchedule
from backend.tradingbot.ops.recon_kinds import BreakKind, SeverityTable, Tolerances
from backend.tradingbot.ops.statement_mappings import CsvMapping
from backend.tradingbot.ops.statements import StatementError
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk


@dataclass(frozen=True)
class Policy:
    """The rules in force for one account. ``version`` names the row that they came from."""

    version: str = "built-in"
    tolerances: Tolerances = Tolerances()
    severities: SeverityTable = SeverityTable()
    fees: FeeSchedule = FeeSchedule()
    upload_only: bool = False
    second_signer: bool = False


def policy_of(account: Account) -> Policy:
    """The account's own highest version, else that of every account, else the built-in rules."""
    row = ReconPolicy.objects.filter(account=account).order_by("-version").first()
    row = row or ReconPolicy.objects.filter(account=None).order_by("-version").first()
    if row is None:
        return Policy()
    name = f"{row.account.code if row.account else 'every account'} {row.version}"
    return Policy(
        name, _tolerances(name, row.tolerances), SeverityTable(name, frozenset(row.warnings)),
        FeeSchedule.from_dict(row.fees), row.upload_only, row.second_signer,
    )  # fmt: skip


def _tolerances(name: str, changes: Mapping[str, Any]) -> Tolerances:
    parsed: dict[str, Any] = {}
    if not isinstance(changes, Mapping):
        raise ValueError("must be an object of tolerances")
    kinds = {field.name: getattr(Tolerances(), field.name) for field in fields(Tolerances)}
    for key, raw in changes.items():
        kind = kinds.get(key)
        if kind is None or key == "version":
            raise ValueError(f"{key} is no tolerance; use {', '.join(sorted(set(kinds) - {'version'}))}")
        try:
            if isinstance(kind, Decimal):
                parsed[key] = Decimal(str(raw))
            elif isinstance(kind, timedelta):
                parsed[key] = timedelta(seconds=float(raw))
            else:
                parsed[key] = int(raw)
                if isinstance(raw, float) and raw != parsed[key]:
                    raise ValueError
        except (InvalidOperation, TypeError, ValueError, OverflowError):
            raise ValueError(f"tolerance {key} is not a number: {raw!r}") from None
    return Tolerances(version=name, **parsed)


def shown_tolerances(tolerances: Tolerances) -> dict[str, Any]:
    """As JSON keeps them on a run."""
    told: dict[str, Any] = {}
    for name, value in asdict(tolerances).items():
        told[name] = plain(value) if isinstance(value, Decimal) else value
        if isinstance(value, timedelta):
            told[name] = f"{value.total_seconds():g} s"
    return told


def set_policy(
    account: Account | None, changes: Mapping[str, Any], *, actor: str, reason: Any, clock: Clock
) -> ReconPolicy:
    """A new version with ``changes`` (tolerances, warnings, fees, upload_only, second_signer) on the one in force.

    Raises InvalidInputError that names the field.
    """
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    for name in changes.keys() - {"tolerances", "warnings", "fees", "upload_only", "second_signer"}:
        errors.add(name, changes[name], "is not a field", "use tolerances, warnings, fees, upload_only, second_signer")
    _check(changes, errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic():
        firm, now = lock_risk(FIRM), clock.now()
        before = ReconPolicy.objects.filter(account=account).order_by("-version").first()
        names = ("tolerances", "warnings", "fees", "upload_only", "second_signer")
        told = {name: getattr(before, name) for name in names} if before else {}
        row = ReconPolicy.objects.create(
            account=account, version=before.version + 1 if before else 1, reason=why, created_by=actor, created_at=now,
            **{**told, **changes},
        )  # fmt: skip
        scope = f"recon_policy {account.code if account else 'every account'}"
        data = {"version": row.version, "reason": why, "changes": {name: str(value) for name, value in changes.items()}}
        journal.append(firm, kind="recon_policy_set", actor=actor, subject=scope, data=data, at=now)
    return row


def _check(changes: Mapping[str, Any], errors: FieldErrors) -> None:
    """Every field that makes no sense, with its remedy."""
    try:
        _tolerances("check", changes.get("tolerances", {}))
    except ValueError as error:
        errors.add("tolerances", changes.get("tolerances"), str(error), "see the built-in ones")
    warnings = changes.get("warnings", [])
    try:
        if not isinstance(warnings, list | tuple) or not all(isinstance(kind, str) for kind in warnings):
            raise ValueError("must be a list of kinds")
        SeverityTable("check", frozenset(warnings))
    except ValueError as error:
        errors.add("warnings", warnings, str(error), "use " + ", ".join(BreakKind))
    fees = changes.get("fees", {})
    try:
        if not isinstance(fees, Mapping):
            raise ValueError("must be an object of rates")
        FeeSchedule.from_dict(fees)
    except ValueError as error:
        errors.add("fees", fees, str(error), "decimals as text")
    for name in ("upload_only", "second_signer"):
        if not isinstance(changes.get(name, False), bool):
            errors.add(name, changes[name], "must be true or false", "true or false, and nothing else")


def save_mapping(body: Mapping[str, Any], *, actor: str, reason: Any, clock: Clock) -> CsvMappingVersion:
    """The next version of a CSV mapping. ``body`` has ``name`` and the fields of ``CsvMapping`` but its version."""
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    name = body.get("name")
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 60 or not name.isprintable():
        errors.add("name", name, "must be 1 to 60 printable characters", "name the mapping")
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic():
        firm, now = lock_risk(FIRM), clock.now()
        before = CsvMappingVersion.objects.filter(name=name).order_by("-version").first()
        version = before.version + 1 if before else 1
        fresh = {key: value for key, value in body.items() if key != "version"}
        _mapping({**fresh, "version": version})
        row = CsvMappingVersion.objects.create(
            name=str(name), version=version, body=fresh, reason=why, created_by=actor, created_at=now
        )
        data = {"version": version, "reason": why, "table": str(fresh.get("table"))}
        journal.append(firm, kind="csv_mapping_saved", actor=actor, subject=str(name), data=data, at=now)
    return row


def mapping_named(name: str, version: int | None = None) -> tuple[CsvMappingVersion, CsvMapping]:
    """A saved mapping, its highest version unless one is named. Raises StatementError."""
    rows = CsvMappingVersion.objects.filter(name=name).order_by("-version")
    row = (rows if version is None else rows.filter(version=version)).first()
    if row is None:
        known = ", ".join(CsvMappingVersion.objects.values_list("name", flat=True).distinct()) or "none yet"
        raise StatementError("statement_mapping", f"there is no mapping {name!r}", f"known: {known}", where="mapping")
    return row, _mapping({**row.body, "version": row.version})


def _mapping(body: Mapping[str, Any]) -> CsvMapping:
    known = {field.name for field in fields(CsvMapping)}
    errors = FieldErrors()
    for name in body.keys() - known:
        errors.add(name, body[name], "is not a field of a mapping", "use " + ", ".join(sorted(known)))
    for name in {"name", "table", "columns"} - body.keys():
        errors.add(name, None, "is missing", "say it")
    if errors:
        raise InvalidInputError(errors.errors, code="invalid_mapping")
    try:
        return CsvMapping(**body)
    except (TypeError, AttributeError):
        errors.add("body", body, "has a field of the wrong type", "columns and words are objects, the rest is text")
        raise InvalidInputError(errors.errors, code="invalid_mapping") from None
