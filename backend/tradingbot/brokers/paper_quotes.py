"""The paper broker has no market of its own: it fills by the ticks that the gateway was given. Never used elsewhere."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import requests
import structlog

log = structlog.get_logger(__name__)


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    return requests.Session()


def forward_quotes(config: Any, quotes: list[dict[str, str | None]]) -> bool:
    """Give ``[{symbol, last, bid, ask}]`` to the paper broker; False, and a log line, when it does not take them."""
    headers = {
        "APCA-API-KEY-ID": config.alpaca_api_key.get_secret_value(),
        "APCA-API-SECRET-KEY": config.alpaca_secret_key.get_secret_value(),
    }
    url = f"{config.alpaca_base_url.rstrip('/')}/paper/quotes"
    try:
        answer = _session().post(url, json={"quotes": quotes}, headers=headers, timeout=(1, 2))
    except requests.RequestException as error:
        log.warning("paper_quotes_failed", problem=type(error).__name__)
        return False
    if not answer.ok:
        log.warning("paper_quotes_refused", status=answer.status_code, answer=answer.text[:200])
    return answer.ok
