"""Limits: what can be limited, where a limit stands, and which one of those that apply is the tightest.

Invariants: a limit is a finite number of its kind's range; a kind that the account's profile requires and that has no
row for the account itself is missing, whatever stands elsewhere, and the gate that needs it denies; a row at any other
scope can only tighten. Values are Decimals; money in the account's currency.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, lru_cache

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.core.values import OrderIntent, plain

FIRM = "firm"
ANYWHERE = frozenset({"firm", "account", "strategy", "symbol", "strategy_symbol"})
ACCOUNT_ONLY = frozenset({"account"})
SHARED = "gross_exposure_max"
# above the account these are headroom that accounts share, see ``Headroom``
SHARED_KINDS = frozenset(
    {SHARED, "net_exposure_max", "portfolio_theta_loss_max"}
    | {f"portfolio_{measure}_max" for measure in ("delta", "gamma", "vega", "beta_exposure")}
)
LARGEST = Decimal("1e12")


@dataclass(frozen=True)
class Kind:
    """One thing that can be limited. ``higher_is_tighter`` is for the windows: a longer memory counts more.

    ``absent_denies``: without a row for the account the gate denies even where no profile requires the kind.
    """

    name: str
    gate: str
    unit: str
    says: str
    scopes: frozenset[str] = ANYWHERE
    higher_is_tighter: bool = False
    whole: bool = False
    absent_denies: bool = False


def _kinds() -> Iterable[Kind]:
    yield Kind("order_qty_max", "order_size", "units", "the largest quantity of one order")
    yield Kind("order_notional_max", "order_size", "money", "the largest value of one order")
    for side, beyond in (("buy", "above"), ("sell", "below")):
        says = f"how far {beyond} last price and touch a {side} may be priced"
        yield Kind(f"price_collar_{side}_bps", "price_collar", "bps", says)
    yield Kind("price_collar_away_bps", "price_collar", "bps", "how far to the passive side of the last price")
    yield Kind("position_long_max", "position_limit", "units", "the longest position in a symbol, open orders included")
    short = "the shortest position, open orders included; without it nothing may be sold short"
    yield Kind("position_short_max", "position_limit", "units", short, absent_denies=True)
    yield Kind(SHARED, "gross_exposure", "money", "gross value of positions and open orders at their worst")
    yield Kind("net_exposure_max", "net_exposure", "money", "net value, long or short, at its worst")
    yield Kind("concentration_max_bps", "concentration", "bps", "one name's share of the account's equity")
    for whose in ("key", "strategy", "account"):
        says = f"new orders of one {whose} in 60 seconds"
        yield Kind(f"order_rate_{whose}_per_min", "order_rate", "orders", says, whole=True)
    yield Kind("reducing_rate_account_per_min", "order_rate", "orders", "orders that only reduce, in 60 s", whole=True)
    yield Kind("duplicate_orders_max", "duplicate_intent", "orders", "equal orders within the window", whole=True)
    yield Kind("duplicate_window_seconds", "duplicate_intent", "seconds", "how long they count", higher_is_tighter=True)
    yield Kind("repeat_orders_max", "repeated_execution", "orders", "one pattern within its window", whole=True)
    yield Kind("repeat_window_seconds", "repeated_execution", "seconds", "how long they count", higher_is_tighter=True)
    yield Kind("pre_open_minutes", "market_hours", "minutes", "limit orders may wait this long for the open")
    for level in ("elevated", "extreme"):
        says = f"how much of the largest order is left when volatility is {level}"
        yield Kind(f"volatility_{level}_pct", "volatility_throttle", "%", says)
    yield Kind("volatility_max_age_seconds", "volatility_throttle", "seconds", "how old the index may be")
    for greek, unit in (("delta", "shares"), ("gamma", "shares a point"), ("vega", "money a vol point")):
        yield Kind(f"portfolio_{greek}_max", "greek_exposure", unit, f"{greek} of the book, both ways")
        yield Kind(f"name_{greek}_max", "greek_exposure", unit, f"{greek} of one name, both ways")
    yield Kind("portfolio_theta_loss_max", "greek_exposure", "money a day", "decay of the book")
    yield Kind("name_theta_loss_max", "greek_exposure", "money a day", "decay of one name")
    yield Kind("portfolio_beta_exposure_max", "greek_exposure", "money", "beta times net, both ways")
    yield Kind("name_beta_exposure_max", "greek_exposure", "money", "beta times net of one name, both ways")
    yield Kind("greeks_max_age_seconds", "greek_exposure", "seconds", "how old an option's Greeks may be")
    yield Kind("stress_loss_max", "greek_exposure", "money", "the worst cell of the stress grid", ACCOUNT_ONLY)


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _kinds()}


def scopes_of(order: OrderIntent) -> tuple[str, ...]:
    """Every scope whose limits apply to ``order``, the widest first."""
    within = f"strategy:{order.strategy}/symbol:{order.symbol}"
    return FIRM, f"account:{order.account}", f"strategy:{order.strategy}", f"symbol:{order.symbol}", within


@lru_cache(maxsize=4_096)
def scope_kind(scope: str) -> str:
    """``firm``, ``account``, ``strategy``, ``symbol`` or ``strategy_symbol``; raises InvalidInputError for others."""
    if scope == FIRM:
        return FIRM
    kind, _, key = scope.partition(":")
    code, within, symbol = key.partition("/symbol:")
    if kind == "strategy" and within and code and symbol:
        return "strategy_symbol"
    if kind in ("account", "strategy", "symbol") and key and not within:
        return kind
    remedy = "use firm, account:<code>, strategy:<code>, symbol:<sym> or strategy:<code>/symbol:<sym>"
    raise InvalidInputError([FieldError("scope", scope, "is not a scope", remedy)])


def check_limit(scope: str, kind: str, value: Decimal | None) -> Kind:
    """The kind, when such a limit can stand at ``scope``; raises InvalidInputError. None means "no limit here"."""
    found = KINDS.get(kind)
    if found is None:
        raise InvalidInputError([FieldError("kind", kind, "is not a kind of limit", "known: " + ", ".join(KINDS))])
    if scope_kind(scope) not in found.scopes:
        remedy = "it can stand at: " + ", ".join(sorted(found.scopes))
        raise InvalidInputError([FieldError("scope", scope, f"cannot limit {kind}", remedy)])
    if value is None:
        return found
    if not value.is_finite() or not 0 <= value <= LARGEST:
        remedy = f"send a number from 0 to {plain(LARGEST)}"
        raise InvalidInputError([FieldError("value", str(value), "must be finite, zero or more", remedy)])
    if found.whole and value % 1:
        raise InvalidInputError([FieldError("value", str(value), "must be whole", "it counts orders")])
    return found


@dataclass(frozen=True)
class Limit:
    """One limit as it stands now."""

    scope: str
    kind: str
    value: Decimal
    version: int

    @property
    def shown(self) -> str:
        return f"{self.kind} of {self.scope}"


@dataclass(frozen=True)
class Profile:
    """A named set of controls: the gates it uses, and for each the kinds it requires with their first values."""

    name: str
    says: str
    values: Mapping[str, Decimal] = field(default_factory=dict)

    def required(self, gate: str) -> tuple[str, ...]:
        return tuple(kind for kind in self.values if KINDS[kind].gate == gate)


@lru_cache(maxsize=64)
def _by_gate(required: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """The kinds that a profile requires, by gate; a profile's are the same for each of its orders."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in required:
        gate = KINDS[kind].gate
        found[gate] = (*found.get(gate, ()), kind)
    return found


@dataclass(frozen=True)
class LimitSet:
    """The limits that apply to one order: ``account`` is the scope whose rows the profile requires."""

    account: str
    required: tuple[str, ...]
    rows: tuple[Limit, ...]

    @cached_property
    def _by_kind(self) -> dict[str, list[Limit]]:
        found: dict[str, list[Limit]] = {}
        for row in self.rows:
            if row.kind not in SHARED_KINDS or row.scope == self.account:
                found.setdefault(row.kind, []).append(row)
        return found

    @cached_property
    def _found(self) -> dict[str, Limit | None]:
        return {}

    def tightest(self, kind: str) -> Limit | None:
        """The row that decides; None when there is none. A value that is no finite number raises, which denies."""
        found = self._found
        if kind not in found:
            rows = self._by_kind.get(kind, [])
            for row in rows:
                check_limit(row.scope, kind, row.value)
            pick = max if KINDS[kind].higher_is_tighter else min  # raises for a kind that is none
            found[kind] = pick(rows, key=lambda row: row.value) if len(rows) > 1 else next(iter(rows), None)
        return found[kind]

    @cached_property
    def _at_account(self) -> dict[str, Limit]:
        """The account's own row of each kind, the first that was given."""
        return {row.kind: row for row in reversed(self.rows) if row.scope == self.account}

    def at_account(self, kind: str) -> Limit | None:
        return self._at_account.get(kind)

    def above_account(self, kinds: Container[str]) -> list[Limit]:
        """The rows of shared ``kinds`` above the account. A value that is no finite number raises, which denies."""
        rows = [row for row in self.rows if row.kind in SHARED_KINDS and row.scope != self.account]
        found = [row for row in rows if row.kind in kinds]
        for row in found:
            check_limit(row.scope, row.kind, row.value)
        return found

    @cached_property
    def _gates(self) -> frozenset[str]:
        return frozenset(KINDS[kind].gate for kind in {row.kind for row in self.rows}).union(_by_gate(self.required))

    def uses(self, gate: str) -> bool:
        """Whether the profile requires anything of ``gate``, or somebody has limited one of its kinds."""
        return gate in self._gates

    def missing(self, gate: str) -> tuple[str, ...]:
        """The required kinds of ``gate`` that have no row for the account."""
        wanted = _by_gate(self.required).get(gate, ())
        return tuple(kind for kind in wanted if kind not in self._at_account)


def is_loosening(kind: str, scope: str, before: Decimal | None, after: Decimal | None, required: bool) -> bool:
    """Whether the change could let an order pass that was denied before.

    Where the account's own row is what allows trading (required, or ``absent_denies``), setting the first one loosens
    and taking it away tightens; anywhere else a row can only tighten.
    """
    if before == after:
        return False
    absent_denies = scope_kind(scope) == "account" and (required or KINDS[kind].absent_denies)
    if before is None or after is None:
        return absent_denies == (before is None)
    return (after < before) if KINDS[kind].higher_is_tighter else (after > before)


def loosened_by(kind: str, before: Decimal | None, after: Decimal | None) -> Decimal | None:
    """How much looser as a fraction of ``before``; None when that cannot be said (no limit before or after, or 0)."""
    if before is None or after is None or before == 0:
        return None
    change = (after - before) / before
    return -change if KINDS[kind].higher_is_tighter else change
