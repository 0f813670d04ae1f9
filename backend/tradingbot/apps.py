"""The Django app."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class TradingbotConfig(AppConfig):
    name = "backend.tradingbot"
    label = "tradingbot"
    verbose_name = "Trading"

    def ready(self) -> None:
        from django.conf import settings

        from backend import celery_app  # noqa: F401  registers the tasks
        from backend.tradingbot import checks  # noqa: F401  registers the system checks
        from backend.tradingbot.services.roles import keep_roles
        from backend.tradingbot.services.scraping import begin_at_zero

        begin_at_zero()
        post_migrate.connect(keep_roles, sender=self, dispatch_uid="tradingbot.roles")
        from backend.tradingbot.services.builds import note_build_on_connect

        connection_created.connect(note_build_on_connect, dispatch_uid="note_build")
        from backend.tradingbot.infra import tracing

        config = settings.TRADINGBOT
        if config.otel_exporter_otlp_endpoint:
            headers = config.otel_exporter_otlp_headers.get_secret_value()
            tracing.start(config.otel_exporter_otlp_endpoint, service=config.otel_service_name, headers=headers)
