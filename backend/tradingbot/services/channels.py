"""The ways out of the house: e-mail, a Slack-style webhook, Telegram. Each sends one text, or says why it could not.

Invariants: an address that is a secret (a webhook's, a bot's token) is in no exception, log line or stored problem; no
redirect is followed; every call has a timeout that leaves room within the five seconds; a text that was taken twice can
be told by its key (``Message-ID``, ``Idempotency-Key``).
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from typing import Any

import requests
from django.core.mail import EmailMessage

from backend.settings.config import Config

TIMEOUT = (2.0, 3.0)
EMAIL, WEBHOOK, TELEGRAM = "email", "webhook", "telegram"
TELEGRAM_LONGEST = 4_000
LONGEST_RETRY_AFTER = 600.0


class NotHandedOverError(Exception):
    """The channel did not take it; ``retry_after`` is what the far side asks for, in seconds."""

    def __init__(self, problem: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.problem, self.retry_after = problem[:200], retry_after


def configured(config: Config) -> list[str]:
    """The channels that the settings name."""
    return [
        name
        for name, wanted in (
            (EMAIL, bool(config.mail_server and config.alarm_recipients)),
            (WEBHOOK, bool(config.notify_webhook_url.get_secret_value())),
            (TELEGRAM, bool(config.notify_telegram_token.get_secret_value())),
        )
        if wanted
    ]


def send(channel: str, config: Config, *, key: str, title: str, text: str) -> None:
    """Hand ``text`` over. Raises NotHandedOverError, and nothing else, when it was not taken or nobody knows."""
    SENDERS[channel](config, key, title, text)


def _email(config: Config, key: str, title: str, text: str) -> None:
    host = config.mail_from.rpartition("@")[2] or "tradingbot"
    headers = {"Message-ID": f"<{key}@{host}>"}
    subject = "[tradingbot] " + " ".join(title.split())
    message = EmailMessage(subject, text, config.mail_from, config.alarm_recipients, headers=headers)
    try:
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        raise NotHandedOverError(f"the mail server: {type(error).__name__}") from None


def _webhook(config: Config, key: str, title: str, text: str) -> None:
    """Slack's incoming webhook, which Mattermost and others speak too: ``{"text": ...}``, its three signs escaped."""
    safe = f"*{title}*\n{text}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    _post(config.notify_webhook_url.get_secret_value(), {"text": safe}, key, "the webhook")


def _telegram(config: Config, key: str, title: str, text: str) -> None:
    whole = f"{title}\n\n{text}"
    body = {
        "chat_id": config.notify_telegram_chat,
        "text": whole if len(whole) <= TELEGRAM_LONGEST else whole[:TELEGRAM_LONGEST] + "\n...",
        "disable_web_page_preview": True,
    }
    token = config.notify_telegram_token.get_secret_value()
    _post(f"{config.notify_telegram_url.rstrip('/')}/bot{token}/sendMessage", body, key, "Telegram")


def _post(url: str, body: dict[str, Any], key: str, who: str) -> None:
    try:
        answer = requests.post(url, json=body, headers={"Idempotency-Key": key}, timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:  # its text has the address, which is the secret
        raise NotHandedOverError(f"{who}: {type(error).__name__}") from None
    if not 200 <= answer.status_code < 300:
        raise NotHandedOverError(f"{who} answered {answer.status_code}", _retry_after(answer))


def _retry_after(answer: requests.Response) -> float:
    """``Retry-After`` in seconds, or Telegram's own ``parameters.retry_after``; 0 when neither says anything."""
    said: Any = answer.headers.get("Retry-After")
    if said is None:
        try:
            said = answer.json()["parameters"]["retry_after"]
        except (ValueError, KeyError, TypeError):
            return 0.0
    try:
        return min(max(float(said), 0.0), LONGEST_RETRY_AFTER)
    except (TypeError, ValueError):
        return 0.0


SENDERS: dict[str, Callable[[Config, str, str, str], None]] = {EMAIL: _email, WEBHOOK: _webhook, TELEGRAM: _telegram}
