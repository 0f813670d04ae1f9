"""The admin. Evidence is read-only; what acts asks for the reason and calls one service, never a model.

One module a subject; importing it registers its pages.
"""

from backend.tradingbot.admin import accounts, breakers, journal, keys, orders, strategies, users

__all__ = ["accounts", "breakers", "journal", "keys", "orders", "strategies", "users"]
