"""Fields and constraints; no behaviour. The verbs are in services, the reads in selectors."""

from backend.tradingbot.models.accounts import Account, ApiKey, RiskRow, Strategy
from backend.tradingbot.models.breakers import Breaker, BreakerEvent
from backend.tradingbot.models.cash_flows import CashFlow
from backend.tradingbot.models.feeds import Feed
from backend.tradingbot.models.journal import JournalEntry
from backend.tradingbot.models.orders import Execution, Order, Position
from backend.tradingbot.models.recon import Break
from backend.tradingbot.models.trading_states import TradingState

__all__ = [
    "Account",
    "ApiKey",
    "Break",
    "Breaker",
    "BreakerEvent",
    "CashFlow",
    "Execution",
    "Feed",
    "JournalEntry",
    "Order",
    "Position",
    "RiskRow",
    "Strategy",
    "TradingState",
]
