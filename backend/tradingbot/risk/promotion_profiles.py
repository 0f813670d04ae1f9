"""The promotion profiles that ship: what each step asks for, as first versions of rows that people change later."""

from __future__ import annotations

from collections.abc import Mapping

from backend.tradingbot.risk.promotion import Bar

SHIPPED: Mapping[str, Mapping[str, Bar]] = {
    "default": {
        "canary": Bar(5, 50, None, None, second_person=False),
        "live": Bar(10, 100, 10.0, 0.2, second_person=True),
    },
    "small_pilot": {
        "canary": Bar(20, 200, None, None, second_person=True),
        "live": Bar(40, 500, 5.0, 0.1, second_person=True),
    },
    "demo": {
        "canary": Bar(0, 1, None, None, second_person=False),
        "live": Bar(0, 2, None, None, second_person=True),
    },
}
