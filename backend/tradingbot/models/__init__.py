"""Fields and constraints; no behaviour. The verbs are in services, the reads in selectors."""

from backend.tradingbot.models.accounts import Account, ApiKey, RiskRow, Strategy
from backend.tradingbot.models.attestations import Attestation
from backend.tradingbot.models.breaker_history import EquityMark, ResetRequest
from backend.tradingbot.models.breakers import Breaker, BreakerEvent
from backend.tradingbot.models.builds import BuildStamp
from backend.tradingbot.models.cash_flows import CashFlow
from backend.tradingbot.models.corporate_actions import CorporateAction
from backend.tradingbot.models.exposure import (
    AccountExposure,
    NameExposure,
    SharedHeadroom,
    StrategyExposure,
    VolatilityLevel,
)
from backend.tradingbot.models.feeds import Feed
from backend.tradingbot.models.heartbeats import Heartbeat, StrategyHeartbeat
from backend.tradingbot.models.journal import JournalAnchor, JournalEntry, JournalVerdict
from backend.tradingbot.models.kill_switch import KillSwitchOrder, KillSwitchRun
from backend.tradingbot.models.limits import DisabledPattern, LimitVersion, Permit
from backend.tradingbot.models.market_data import (
    Bar,
    BarConflict,
    BarFile,
    CheckRun,
    DataStop,
    Quarantine,
    SecondSourceBar,
)
from backend.tradingbot.models.modes import (
    CanaryDay,
    ModeChange,
    PromotionBar,
    PromotionRequest,
    ShadowExecution,
    ShadowName,
    ShadowOrder,
    StrategyBuild,
)
from backend.tradingbot.models.notifications import Notification, NotificationDelivery, NotifiedFact
from backend.tradingbot.models.orders import Execution, HeldReport, Order, Position
from backend.tradingbot.models.recon import Break
from backend.tradingbot.models.recon_blocks import ReconciliationBlock
from backend.tradingbot.models.recon_runs import Affirmation, BookEntry, BreakEvent, Match, ReconPolicy, ReconRun
from backend.tradingbot.models.statements import (
    CsvMappingVersion,
    Statement,
    StatementActivity,
    StatementChoice,
    StatementExecution,
    StatementFile,
    StatementOrder,
    StatementPosition,
)
from backend.tradingbot.models.trading_states import TradingState

__all__ = [
    "Account",
    "AccountExposure",
    "Affirmation",
    "ApiKey",
    "Attestation",
    "Bar",
    "BarConflict",
    "BarFile",
    "BookEntry",
    "Break",
    "BreakEvent",
    "Breaker",
    "BreakerEvent",
    "BuildStamp",
    "CanaryDay",
    "CashFlow",
    "CheckRun",
    "CorporateAction",
    "CsvMappingVersion",
    "DataStop",
    "DisabledPattern",
    "EquityMark",
    "Execution",
    "Feed",
    "Heartbeat",
    "HeldReport",
    "JournalAnchor",
    "JournalEntry",
    "JournalVerdict",
    "KillSwitchOrder",
    "KillSwitchRun",
    "LimitVersion",
    "Match",
    "ModeChange",
    "NameExposure",
    "Notification",
    "NotificationDelivery",
    "NotifiedFact",
    "Order",
    "Permit",
    "Position",
    "PromotionBar",
    "PromotionRequest",
    "Quarantine",
    "ReconPolicy",
    "ReconRun",
    "ReconciliationBlock",
    "ResetRequest",
    "RiskRow",
    "SecondSourceBar",
    "ShadowExecution",
    "ShadowName",
    "ShadowOrder",
    "SharedHeadroom",
    "Statement",
    "StatementActivity",
    "StatementChoice",
    "StatementExecution",
    "StatementFile",
    "StatementOrder",
    "StatementPosition",
    "Strategy",
    "StrategyBuild",
    "StrategyExposure",
    "StrategyHeartbeat",
    "TradingState",
    "VolatilityLevel",
]
