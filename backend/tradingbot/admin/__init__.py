"""The admin. Evidence is read-only; what acts asks for the reason and calls one service, never a model.

One module a subject; importing it registers its pages.
"""

from backend.tradingbot.admin import (
    accounts,
    blocks,
    books,
    breakers,
    breaks,
    builds,
    corporate_actions,
    journal,
    keys,
    kill_switch,
    limits,
    market_data,
    notifications,
    orders,
    strategies,
    trading_states,
    users,
)

from backend.tradingbot.admin import others  # isort: skip  # after all that have pages of their own

__all__ = [
    "accounts",
    "blocks",
    "books",
    "breakers",
    "breaks",
    "builds",
    "corporate_actions",
    "journal",
    "keys",
    "kill_switch",
    "limits",
    "market_data",
    "notifications",
    "orders",
    "others",
    "strategies",
    "trading_states",
    "users",
]
