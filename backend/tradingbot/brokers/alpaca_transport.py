"""One request to Alpaca, sent exactly once, and what its answer or its silence means.

Invariants: the SDK's own retries are off, every request has a timeout and its trace's header, redirects are never taken
for an answer. A request that was never sent is told apart from one that may have arrived; whatever is not known to be
harmless is in doubt. Error bodies are read tolerantly, because a proxy answers HTML where the broker would answer JSON.
"""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import urlsplit

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from urllib3.exceptions import MaxRetryError, NewConnectionError

from backend.tradingbot.brokers.deadline import PastDeadlineError, TimedAdapter, not_after
from backend.tradingbot.brokers.interruptible import InterruptibleAdapter
from backend.tradingbot.core.clock import Deadline
from backend.tradingbot.infra import failpoints, metrics, tracing

_SHOWN = 500
SEND_BY_PASSED = "send_by_passed"


class Refusal(Exception):
    """The broker, or something before it, answered with a status that is not 2xx."""

    def __init__(self, status: int, broker_code: int | None, message: str, body: str, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id
        self.status = status
        self.broker_code = broker_code
        self.message = message
        self.body = body

    @property
    def outcome(self) -> str:
        """How the call is counted: a broker that breaks, or does not know our keys, is not one that says no."""
        if self.status >= 500:
            return "server_error"
        return {401: "key_refused", 429: "throttled"}.get(self.status, "refused")

    def evidence(self) -> dict[str, Any]:
        shown = {"http_status": self.status, "broker_code": self.broker_code, "body": self.body}
        return shown | ({"request_id": self.request_id} if self.request_id else {})


class NeverSentError(Exception):
    """No connection was made, so no byte of the request left."""

    @property
    def outcome(self) -> str:
        return "too_late" if self.args == (SEND_BY_PASSED,) else "never_sent"


class NoAnswerError(Exception):
    """The request may have arrived, and no answer that can be read came back."""

    outcome = "no_answer"


class Transport:
    """Sends requests through the SDK's session, disarmed. ``base_url`` may carry ``/v2`` or a slash; both are cut."""

    def __init__(
        self, api_key: str, secret_key: str, base_url: str, connect_timeout: float, read_timeout: float
    ) -> None:
        address = base_url.rstrip("/").removesuffix("/v2").rstrip("/")
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).netloc:
            raise ValueError("the broker's base_url must be an http or https address")
        if connect_timeout <= 0 or read_timeout <= 0:
            raise ValueError("the broker's timeouts must be positive")
        self.base_url = address
        client = TradingClient(api_key, secret_key, url_override=address, raw_data=True)
        client._retry_codes = []  # the constructor offers no way to switch the retries off
        session = client._session
        adapter = InterruptibleAdapter() if failpoints.active() else TimedAdapter()
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        self._answered = threading.local()
        unlimited = session.request

        def request(method: str, url: str, **options: Any) -> requests.Response:
            options["timeout"] = (connect_timeout, read_timeout)
            options["headers"] = {**(options.get("headers") or {}), "traceparent": tracing.traceparent()}
            response = unlimited(method, url, **options)
            self._answered.request_id = response.headers.get("X-Request-ID", "")[:80]
            if not 200 <= response.status_code < 300:
                raise _refusal(response.status_code, response.text, self._answered.request_id)
            return response

        session.request = request  # type: ignore[method-assign, assignment]
        self._client = client

    def send(self, method: str, path: str, data: dict[str, Any] | None = None, deadline: Deadline | None = None) -> Any:
        """The parsed JSON of a 2xx (None for an empty body); otherwise Refusal, NeverSentError or NoAnswerError.

        After ``deadline`` nothing is written to the broker any more: NeverSentError ``send_by_passed``.
        """
        self._answered.request_id = ""
        with metrics.broker_call(operation(method, path)), not_after(deadline):
            return self._send(method, path, data)

    @property
    def request_id(self) -> str:
        """The broker's id of the last request that this thread got an answer to; empty when it named none."""
        return str(getattr(self._answered, "request_id", ""))

    def _send(self, method: str, path: str, data: dict[str, Any] | None) -> Any:
        try:
            answer = self._client._request(method, path, data)
            if method == "POST":
                failpoints.hit("broker.answer_lost", (data or {}).get("client_order_id", ""), requests.ConnectionError)
            return answer
        except Refusal:
            raise
        except PastDeadlineError as error:
            raise NeverSentError(SEND_BY_PASSED) from error
        except APIError as error:
            raise _refusal(error.status_code or 0, str(error)) from error
        except requests.ConnectTimeout as error:
            raise NeverSentError("connect_timeout") from error
        except requests.ConnectionError as error:
            if _was_never_connected(error):
                raise NeverSentError("connection_refused_or_unresolved") from error
            raise NoAnswerError("connection_lost") from error
        except requests.Timeout as error:
            raise NoAnswerError("read_timeout") from error
        except ValueError as error:
            raise NoAnswerError("unreadable_answer") from error
        except Exception as error:  # whatever broke, the bytes may be gone: only a known cause is harmless
            raise NoAnswerError(f"failed_{type(error).__name__}") from error


def operation(method: str, path: str) -> str:
    """``GET /orders/7f3a...`` as ``GET /orders/{id}``: a label of a bounded set."""
    first, *rest = path.partition("?")[0].strip("/").split("/")
    known = [part if part.isalpha() else "{id}" for part in rest]
    return f"{method} /{'/'.join([first, *known])}"


def _was_never_connected(error: requests.ConnectionError) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _refusal(status: int, text: str, request_id: str = "") -> Refusal:
    """A refusal from any body: JSON with or without a code, HTML, or nothing."""
    code: int | None = None
    message = ""
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        raw_code = parsed.get("code")
        if isinstance(raw_code, (int, str)) and str(raw_code).isascii() and str(raw_code).isdigit():
            code = int(raw_code)
        message = str(parsed.get("message") or "")
    return Refusal(status, code, message[:_SHOWN] or f"HTTP {status}", text[:_SHOWN], request_id)
