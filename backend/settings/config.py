"""The configuration, parsed once from the environment into a frozen object that refuses nonsense at start.

A secret need not stand in the environment: ``DATABASE_URL_FILE`` names the file that ``DATABASE_URL`` is read from, and
so for every setting. A file that cannot be read, that is empty, or that is named beside the setting itself is refused.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from backend.settings.from_files import FromFiles, with_password
from backend.tradingbot.infra import tracing

PAPER_HOST = "https://paper-api.alpaca.markets"
LIVE_HOST = "https://api.alpaca.markets"


def _addresses(listed: str) -> list[str]:
    return [address.strip() for address in listed.split(",") if address.strip()]


class Config(BaseSettings):
    """Every setting by its environment variable's name, in lower case. Seconds are seconds, not milliseconds."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    environment: Literal["development", "test", "production"] = "development"
    secret_key: SecretStr
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    database_url: SecretStr
    redis_url: SecretStr
    database_password: SecretStr = SecretStr("")
    redis_password: SecretStr = SecretStr("")
    state_dir: Path = Path(".state")
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    metrics_public: bool = False
    worker_metrics_port: int = Field(0, ge=0, le=65_535)
    worker_metrics_host: str = Field("127.0.0.1", min_length=1)
    otel_exporter_otlp_endpoint: str = ""
    otel_exporter_otlp_headers: SecretStr = SecretStr("")
    otel_service_name: str = Field("tradingbot", min_length=1, max_length=80)

    broker: Literal["paper", "alpaca"] = "paper"
    alpaca_api_key: SecretStr = SecretStr("")
    alpaca_secret_key: SecretStr = SecretStr("")
    alpaca_base_url: str = PAPER_HOST
    alpaca_data_url: str = ""
    allow_live_trading: Literal["", "no", "yes"] = ""

    web_workers: int = Field(2, ge=1, le=64)
    web_threads: int = Field(4, ge=1, le=64)
    worker_threads: int = Field(4, ge=1, le=64)

    send_by_seconds: float = Field(5.0, gt=0, le=60)
    broker_connect_timeout: float = Field(2.0, gt=0, le=60)
    broker_read_timeout: float = Field(5.0, gt=0, le=120)
    quiet_window_seconds: float = Field(120.0, gt=0)
    recovery_min_misses: int = Field(3, ge=1)
    attest_second_person: bool = False
    poll_seconds: float = Field(1.0, gt=0, le=60)
    recovery_seconds: float = Field(3.0, gt=0, le=60)
    anchor_seconds: float = Field(600.0, gt=0, le=86_400)
    anchor_file: Path | None = None
    journal_verify_seconds: float = Field(21_600.0, gt=0, le=86_400)
    mark_seconds: float = Field(5.0, gt=0, le=60)
    equity_history_hours: float = Field(72.0, gt=0, le=24 * 366)
    reset_second_person: bool = False
    reset_request_seconds: float = Field(900.0, gt=0, le=86_400)
    cash_flow_seconds: float = Field(30.0, gt=0, le=3600)
    revalue_seconds: float = Field(30.0, gt=0, le=3600)
    risk_free_rate: float = Field(0.04, ge=-0.1, le=1)
    volatility_symbol: str = Field("VIX", pattern=r"^[A-Z0-9./-]{1,32}$")
    loosening_alone_pct: float = Field(0.0, ge=0, le=100)
    kill_switch_seconds: float = Field(1.0, gt=0, le=60)
    flatten_slice_value: Decimal = Field(Decimal(50_000), gt=0)
    flatten_patience_seconds: float = Field(5.0, gt=0, le=3600)
    recon_delay_minutes: float = Field(20.0, ge=0, le=24 * 60)
    recon_retry_seconds: float = Field(60.0, gt=0, le=3600)
    recon_intraday_seconds: float = Field(300.0, gt=0, le=3600)
    affirmation_hours: float = Field(15.0, gt=0, le=24 * 7)
    statement_max_bytes: int = Field(32 * 1024 * 1024, ge=1024, le=1024**3)
    mail_url: SecretStr = SecretStr("")
    mail_to: str = ""
    mail_from: str = "tradingbot@localhost"
    heartbeat_action: Literal["reduce", "cancel"] = "reduce"
    require_totp: bool = False
    session_hours: float = Field(12.0, gt=0, le=24 * 14)
    trusted_proxies: int = Field(0, ge=0, le=10)
    public_url: str = "http://localhost:8000"
    notify_mail_to: str = ""
    notify_webhook_url: SecretStr = SecretStr("")
    notify_telegram_token: SecretStr = SecretStr("")
    notify_telegram_chat: str = ""
    notify_telegram_url: str = "https://api.telegram.org"
    notify_seconds: float = Field(1.0, gt=0, le=2)
    notify_in_doubt_seconds: float = Field(60.0, ge=0, le=3600)
    notify_data_stop_seconds: float = Field(10.0, ge=0, le=3600)
    notify_escalate_minutes: float = Field(15.0, gt=0, le=24 * 60)
    bar_grace_seconds: float = Field(30.0, ge=0, le=600)
    store_timeout_seconds: float = Field(0.5, gt=0, le=10)
    known_builds_only: bool = False
    modes_seconds: float = Field(15.0, gt=0, le=600)
    shadow_latency_seconds: float = Field(0.25, ge=0, le=60)
    start_patience_seconds: float = Field(30.0, ge=0, le=600)
    failpoints: str = ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, FromFiles(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _join_passwords(cls, values: dict[str, Any]) -> dict[str, Any]:
        """``DATABASE_PASSWORD`` and ``REDIS_PASSWORD`` go into their URLs, so that a URL need not be a secret."""
        for name in ("database", "redis"):
            password, url = values.get(f"{name}_password"), values.get(f"{name}_url")
            if isinstance(password, str) and password and isinstance(url, str):
                values = values | {f"{name}_url": with_password(url, password, name.upper())}
        return values

    @model_validator(mode="after")
    def _refuse_nonsense(self) -> Self:
        if self.environment == "production" and len(self.secret_key.get_secret_value()) < 50:
            raise ValueError("SECRET_KEY must have at least 50 characters in production")
        if self.environment == "production" and self.failpoints:
            raise ValueError("FAILPOINTS must not be set with ENVIRONMENT=production; unset it")
        if self.mail_url.get_secret_value() and urlsplit(self.mail_url.get_secret_value()).scheme not in (
            "smtp",
            "smtps",
        ):
            raise ValueError("MAIL_URL must start with smtp:// or smtps://")
        self._refuse_unsafe_channels()
        if not self.database_url.get_secret_value().startswith(("postgres://", "postgresql://")):
            raise ValueError("DATABASE_URL must start with postgresql://")
        if not self.redis_url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("REDIS_URL must start with redis://, rediss:// or unix://")
        if self.alpaca_data_url and not self.alpaca_data_url.startswith(("wss://", "ws://127.0.0.1", "ws://localhost")):
            raise ValueError("ALPACA_DATA_URL must start with wss://: it carries the keys")
        if self.alpaca_base_url.rstrip("/") == LIVE_HOST and self.allow_live_trading != "yes":
            raise ValueError("ALPACA_BASE_URL is the live host: set ALLOW_LIVE_TRADING=yes if you mean real money")
        self._refuse_traces_that_go_nowhere()
        keys = (self.alpaca_api_key.get_secret_value(), self.alpaca_secret_key.get_secret_value())
        if self.broker == "alpaca" and not all(keys):
            raise ValueError("BROKER=alpaca needs ALPACA_API_KEY and ALPACA_SECRET_KEY")
        return self

    def _refuse_unsafe_channels(self) -> None:
        """What carries a secret goes over TLS, or stays on this machine."""
        addresses = {
            "NOTIFY_WEBHOOK_URL": self.notify_webhook_url.get_secret_value(),
            "NOTIFY_TELEGRAM_URL": self.notify_telegram_url,
        }
        for name, address in addresses.items():
            url = urlsplit(address)
            if address and url.scheme != "https" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise ValueError(f"{name} must start with https://: it carries a secret")
        if bool(self.notify_telegram_token.get_secret_value()) != bool(self.notify_telegram_chat):
            raise ValueError("NOTIFY_TELEGRAM_TOKEN and NOTIFY_TELEGRAM_CHAT go together: set both or neither")
        if urlsplit(self.public_url).scheme not in ("http", "https"):
            raise ValueError("PUBLIC_URL must start with https:// (or http:// on a laptop)")

    def public(self) -> dict[str, str]:
        """Every setting that is no secret, as text: what the configuration's hash on every record is made of.

        Left out are the ``SecretStr`` ones (SECRET_KEY, DATABASE_URL, REDIS_URL, the broker's keys, MAIL_URL).
        """
        values = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: str(value) for name, value in values if not isinstance(value, SecretStr)}

    def _refuse_traces_that_go_nowhere(self) -> None:
        if not self.otel_exporter_otlp_endpoint:
            return
        if urlsplit(self.otel_exporter_otlp_endpoint).scheme not in ("http", "https"):
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must start with http:// or https://")
        if absent := tracing.missing_packages():
            needs = "OTEL_EXPORTER_OTLP_ENDPOINT needs the optional extra otel, and this is not installed: "
            raise ValueError(needs + ", ".join(absent) + "; install it or unset the variable")

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must never be in a log line: each secret setting, and the passwords in the addresses."""
        kept = [getattr(self, name).get_secret_value() for name, field in type(self).model_fields.items()
                if field.annotation is SecretStr]  # fmt: skip
        addresses = (self.database_url, self.redis_url, self.mail_url)
        passwords = [urlsplit(address.get_secret_value()).password or "" for address in addresses]
        return tuple(dict.fromkeys(value for value in [*kept, *passwords, *map(unquote, passwords)] if value))

    @property
    def anchors_at(self) -> Path:
        """Where the journal's anchors are written."""
        return self.anchor_file or self.state_dir / "journal-anchors.jsonl"

    @cached_property
    def mail_server(self) -> tuple[str, int, str, str, bool] | None:
        """``MAIL_URL`` (``smtp://user:password@host:port`` or ``smtps://``) as Django's settings; None without one."""
        raw = self.mail_url.get_secret_value()
        if not raw:
            return None
        url = urlsplit(raw)
        port = url.port or (587 if url.scheme == "smtps" else 25)
        return url.hostname or "", port, unquote(url.username or ""), unquote(url.password or ""), url.scheme == "smtps"

    @cached_property
    def recipients(self) -> list[str]:
        """``MAIL_TO``: addresses with commas between them."""
        return _addresses(self.mail_to)

    @cached_property
    def alarm_recipients(self) -> list[str]:
        """``NOTIFY_MAIL_TO``: who is told of what cannot wait; ``MAIL_TO`` when nobody else is named."""
        return _addresses(self.notify_mail_to) or self.recipients

    @cached_property
    def database(self) -> dict[str, Any]:
        """``DATABASE_URL`` as Django's ``DATABASES['default']``."""
        url = urlsplit(self.database_url.get_secret_value())
        query = dict(pair.split("=", 1) for pair in url.query.split("&") if "=" in pair)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(url.path.lstrip("/")) or "postgres",
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": unquote(query.get("host", "")) or url.hostname or "",
            "PORT": str(url.port or query.get("port", "")),
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"connect_timeout": 3, "options": "-c lock_timeout=5s -c statement_timeout=15s"},
        }
