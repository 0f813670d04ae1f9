"""The profiles that ship: which controls an account must have, and the values it starts with.

``small_pilot`` is for the first weeks of a strategy (FINRA 15-09: a small pilot, a quick disable). A profile requires;
the values in force are the account's limit rows, which start as copies of these and are changed by people.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.risk.limits import Profile


def _values(**values: str) -> dict[str, Decimal]:
    return {kind: Decimal(value) for kind, value in values.items()}


DEFAULT = Profile(
    "default",
    "a funded account that trades shares and listed options",
    _values(
        order_qty_max="10000",
        order_notional_max="250000",
        price_collar_buy_bps="500",
        price_collar_sell_bps="500",
        price_collar_away_bps="5000",
        position_long_max="20000",
        gross_exposure_max="1000000",
        net_exposure_max="1000000",
        concentration_max_bps="5000",
        order_rate_key_per_min="600",
        order_rate_strategy_per_min="600",
        order_rate_account_per_min="1200",
        reducing_rate_account_per_min="1200",
        duplicate_orders_max="10",
        duplicate_window_seconds="5",
        repeat_orders_max="200",
        repeat_window_seconds="300",
        portfolio_delta_max="1000000",
        portfolio_gamma_max="10000",
        portfolio_theta_loss_max="1000",
        portfolio_vega_max="50000",
        portfolio_beta_exposure_max="2000000",
        name_delta_max="100000",
        name_gamma_max="1000",
        name_theta_loss_max="100",
        name_vega_max="5000",
        name_beta_exposure_max="200000",
        greeks_max_age_seconds="900",
    ),
)

SMALL_PILOT = Profile(
    "small_pilot",
    "a new strategy with little money, watched closely; orders shrink when the market is wild",
    _values(
        order_qty_max="100",
        order_notional_max="5000",
        price_collar_buy_bps="200",
        price_collar_sell_bps="200",
        price_collar_away_bps="2000",
        position_long_max="200",
        gross_exposure_max="20000",
        net_exposure_max="20000",
        concentration_max_bps="2500",
        order_rate_key_per_min="30",
        order_rate_strategy_per_min="30",
        order_rate_account_per_min="60",
        reducing_rate_account_per_min="60",
        duplicate_orders_max="2",
        duplicate_window_seconds="60",
        repeat_orders_max="20",
        repeat_window_seconds="600",
        volatility_elevated_pct="50",
        volatility_extreme_pct="25",
        volatility_max_age_seconds="300",
        portfolio_delta_max="1000",
        portfolio_gamma_max="100",
        portfolio_theta_loss_max="50",
        portfolio_vega_max="500",
        portfolio_beta_exposure_max="30000",
        name_delta_max="200",
        name_gamma_max="50",
        name_theta_loss_max="25",
        name_vega_max="250",
        name_beta_exposure_max="10000",
        greeks_max_age_seconds="300",
        stress_loss_max="4000",
    ),
)

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (DEFAULT, SMALL_PILOT)}


def profile_named(name: str) -> Profile:
    """The profile; raises InvalidInputError for a name that there is none of."""
    found = PROFILES.get(name)
    if found is None:
        raise InvalidInputError([FieldError("profile", name, "is not a profile", "use " + ", ".join(PROFILES))])
    return found
