"""The admin. Evidence is read-only; what acts asks for the reason and calls one service, never a model.

One module a subject; importing it registers its pages.
"""

from backend.tradingbot.admin import (
    accounts,
    affirmations,
    blocks,
    books,
    breakers,
    breaks,
    builds,
    corporate_actions,
    csv_mappings,
    journal,
    keys,
    kill_switch,
    limits,
    market_data,
    modes,
    notifications,
    orders,
    promotion_bars,
    recon_policies,
    recon_runs,
    statements,
    strategies,
    trading_states,
    users,
)

from backend.tradingbot.admin import others  # isort: skip  # after all that have pages of their own

__all__ = [
    "accounts",
    "affirmations",
    "blocks",
    "books",
    "breakers",
    "breaks",
    "builds",
    "corporate_actions",
    "csv_mappings",
    "journal",
    "keys",
    "kill_switch",
    "limits",
    "market_data",
    "modes",
    "notifications",
    "orders",
    "others",
    "promotion_bars",
    "recon_policies",
    "recon_runs",
    "statements",
    "strategies",
    "trading_states",
    "users",
]
