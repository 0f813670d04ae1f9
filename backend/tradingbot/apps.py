"""The Django app."""

from django.apps import AppConfig


class TradingbotConfig(AppConfig):
    name = "backend.tradingbot"
    label = "tradingbot"
    verbose_name = "Trading"

    def ready(self) -> None:
        from backend import celery_app  # noqa: F401  registers the tasks
        from backend.tradingbot import checks  # noqa: F401  registers the system checks
