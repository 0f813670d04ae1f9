"""Permits for single orders, and patterns that are disabled until a named person enables them again.

Invariants: the caller of ``after_decision`` holds the account's risk row, so one permit lets one order through; a
pattern is disabled in the transaction of the order that was one too many; giving a permit and enabling a pattern are
journalled with who and why.
"""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_decimal, parse_price, parse_reason, parse_symbol
from backend.tradingbot.core.values import OrderIntent, Side, plain
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, DisabledPattern, Order, Permit, RiskRow, Strategy
from backend.tradingbot.risk.gates import Decision, RiskSnapshot
from backend.tradingbot.risk.permits import LASTS, permit_problem
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, locked_risk

FIELDS = ("account", "strategy", "symbol", "side", "qty", "limit_price", "reason")


def after_decision(row: RiskRow, order: Order, intent: OrderIntent, snapshot: RiskSnapshot, decision: Decision) -> None:
    """Use up the permit of an order that was let through; disable the pattern of one that came too often."""
    permit_id = intent.permit_id
    if decision.allowed and permit_id is not None and permit_problem(intent, snapshot.permit, snapshot) is None:
        _use(order, permit_id, snapshot)
    if any(check.code == "repeats_exceeded" for check in decision.checks):
        _disable(row, order, decision, snapshot)


def _use(order: Order, permit_id: str, snapshot: RiskSnapshot) -> None:
    unused = Permit.objects.filter(permit_id=permit_id, used_at__isnull=True)
    if unused.update(used_at=snapshot.now, used_by=order.client_order_id) != 1:
        raise RuntimeError(f"permit {permit_id} was to be used once; nothing is committed")


def _disable(row: RiskRow, order: Order, decision: Decision, snapshot: RiskSnapshot) -> None:
    why = next(check.message for check in decision.checks if check.code == "repeats_exceeded")[:200]
    same = {"account": order.account, "strategy": order.strategy, "symbol": order.symbol, "side": order.side}
    fields = {**same, "disabled_at": snapshot.now, "why": why, "trace_id": TRACE_ID.get(), "build_id": build_id()}
    pattern = DisabledPattern(qty=order.qty, **fields)
    made = DisabledPattern.objects.bulk_create([pattern], ignore_conflicts=True)
    if made:
        data = {"side": order.side, "qty": plain(order.qty) or "", "symbol": order.symbol, "why": why}
        subject = f"strategy:{order.strategy.code}"
        journal.append(row, kind="pattern_disabled", actor="gateway", subject=subject, data=data, at=snapshot.now)


def give_permit(body: Any, *, actor: str, clock: Clock) -> Permit:
    """A permit for the one order that ``body`` describes. Raises InvalidInputError, NotFoundError."""
    wanted = _parse(body)
    account = Account.objects.filter(code=wanted["account"]).first()
    strategy = Strategy.objects.filter(code=wanted["strategy"]).first()
    if account is None or strategy is None:
        missing = f"account {wanted['account']}" if account is None else f"strategy {wanted['strategy']}"
        raise NotFoundError(f"there is no {missing}", remedy="check the name")
    now = clock.now()
    with locked_risk(account_scope(account.code)) as row:
        permit = Permit.objects.create(
            permit_id=f"permit-{secrets.token_hex(12)}",
            **{**wanted, "account": account, "strategy": strategy},
            given_by=actor,
            given_at=now,
            expires_at=now + LASTS,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )
        data = {name: plain(value) if isinstance(value, Decimal) else value for name, value in wanted.items()}
        data["expires_at"] = rfc3339(permit.expires_at)
        journal.append(row, kind="permit_given", actor=actor, subject=permit.permit_id, data=data, at=now)
    return permit


def _parse(body: Any) -> dict[str, Any]:
    errors = FieldErrors()
    if not isinstance(body, dict):
        errors.add("body", body, "must be a JSON object", "send " + ", ".join(FIELDS))
        raise InvalidInputError(errors.errors)
    for name in body.keys() - set(FIELDS):
        errors.add(str(name), body[name], "is not a known field", "known: " + ", ".join(FIELDS))
    for name in ("account", "strategy"):
        if not isinstance(body.get(name), str) or not body[name]:
            errors.add(name, body.get(name), "is missing", f"name the {name}")
    if body.get("side") not in [side.value for side in Side]:
        errors.add("side", body.get("side"), "is not one of the allowed values", "use buy or sell")
    limit_price = None if body.get("limit_price") is None else parse_price(body["limit_price"], "limit_price", errors)
    wanted = {
        "account": body.get("account"),
        "strategy": body.get("strategy"),
        "symbol": parse_symbol(body.get("symbol"), "symbol", errors),
        "side": body.get("side"),
        "qty": parse_decimal(body.get("qty"), "qty", errors),
        "limit_price": limit_price,
        "reason": parse_reason(body.get("reason"), "reason", errors),
    }
    if errors:
        raise InvalidInputError(errors.errors)
    return wanted


def disabled_patterns() -> list[DisabledPattern]:
    """Those that are disabled now, and those that were enabled again, the newest first."""
    return list(DisabledPattern.objects.select_related("account", "strategy")[:200])


def enable_pattern(pattern_id: int, *, actor: str, reason: Any, clock: Clock) -> DisabledPattern:
    """Let the pattern trade again; its count starts anew. Raises NotFoundError, ConflictError ``pattern_enabled``."""
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    found = DisabledPattern.objects.select_related("account", "strategy").filter(pk=pattern_id).first()
    if found is None:
        raise NotFoundError(f"there is no disabled pattern {pattern_id}", remedy="see GET disabled-patterns")
    with locked_risk(account_scope(found.account.code)) as row:
        now = clock.now()
        changes = {"enabled_at": now, "enabled_by": actor, "reason": why}
        if not DisabledPattern.objects.filter(pk=pattern_id, enabled_at__isnull=True).update(**changes):
            raise ConflictError("it is enabled already", code="pattern_enabled", remedy="nothing is left to do")
        subject = f"strategy:{found.strategy.code}"
        data = {"reason": why, "symbol": found.symbol, "side": found.side, "qty": plain(found.qty) or ""}
        journal.append(row, kind="pattern_enabled", actor=actor, subject=subject, data=data, at=now)
    found.refresh_from_db()
    return found
