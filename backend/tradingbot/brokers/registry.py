"""Which broker this process talks to: one client for each (address, key), made on first use.

Invariant: a client is never shared across a fork, because two processes writing into one socket would mix up answers.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerQueryError, BrokerRejectedError, BrokerUnreachableError
from backend.tradingbot.core.errors import TradingbotError, UnavailableError

# The paper broker speaks the same protocol, so that every path of the adapter is exercised by it.
_SPEAKS_ALPACA = ("paper", "alpaca")
_clients: dict[tuple[Any, ...], AlpacaClient] = {}
_lock = threading.Lock()


def execution_client(config: Any) -> AlpacaClient:
    """The client for ``config.broker``, paper or alpaca. Any other, and missing keys, raise UnavailableError."""
    if config.broker not in _SPEAKS_ALPACA:
        raise UnavailableError(
            f"there is no broker called {config.broker!r}",
            code="broker_unknown",
            remedy=f"Set BROKER to one of {', '.join(_SPEAKS_ALPACA)}.",
        )
    key, secret = _revealed(config.alpaca_api_key), _revealed(config.alpaca_secret_key)
    if not key or not secret:
        raise UnavailableError(
            f"there are no keys for the broker {config.broker}",
            code="broker_keys_missing",
            remedy="Set ALPACA_API_KEY and ALPACA_SECRET_KEY.",
        )
    timeouts = (float(config.broker_connect_timeout), float(config.broker_read_timeout))
    identity = (os.getpid(), str(config.alpaca_base_url), key, secret, timeouts)
    with _lock:
        if identity not in _clients:
            _clients[identity] = AlpacaClient(key, secret, str(config.alpaca_base_url), *timeouts)
        return _clients[identity]


def client_for(config: Any, broker_account: str) -> AlpacaClient:
    """The client whose keys belong to ``broker_account`` of the broker. The broker is asked once a process.

    Raises BrokerRejectedError ``wrong_broker_account`` when the keys are another account's, BrokerUnreachableError when
    it cannot be found out: nothing may be sent for an account whose keys these may not be.
    """
    client = execution_client(config)
    try:
        number = client.account_number()
    except BrokerQueryError as error:
        raise BrokerUnreachableError(f"whose keys these are is not known: {error.message}", error.evidence) from error
    if number != broker_account:
        raise BrokerRejectedError(
            "wrong_broker_account",
            f"the keys belong to the broker's account {number}, and the order is for {broker_account}",
            {"account_number": number},
        )
    return client


def broker_fault(config: Any) -> str | None:
    """What is wrong with the broker in one sentence that names the cause; None when it answers and trades for us."""
    try:
        if execution_client(config).validate_connection():
            return None
        return "the broker says that the account is not active"
    except BrokerQueryError as error:
        status = error.evidence.get("http_status")
        if status in (401, 403):
            return f"the broker at {config.alpaca_base_url} does not accept the keys (HTTP {status})"
        if error.evidence.get("cause"):
            return f"the broker at {config.alpaca_base_url} cannot be reached ({error.evidence.get('reason')})"
        return f"the broker at {config.alpaca_base_url}: {error.message}"
    except (TradingbotError, ValueError) as error:
        return str(error)


def _revealed(value: Any) -> str:
    """The text of a plain string or of a pydantic ``SecretStr``."""
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal()) if reveal is not None else str(value)


def _forget() -> None:
    """A child starts with no client and a free lock: the parent may have held it while forking."""
    global _lock
    _lock = threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_forget)
