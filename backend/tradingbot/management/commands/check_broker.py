"""``manage.py check_broker``: asks the broker who the keys belong to, and says in a sentence what is wrong."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from backend.tradingbot.brokers.answers import BrokerQueryError
from backend.tradingbot.brokers.registry import broker_fault, execution_client
from backend.tradingbot.models import Account


class Command(BaseCommand):
    help = "Say whether the broker can be reached, accepts the keys, and has our accounts."

    def handle(self, *args: Any, **options: Any) -> None:
        config = settings.TRADINGBOT
        fault = broker_fault(config)
        if fault is not None:
            raise CommandError(fault)
        try:
            number = execution_client(config).account_number()
        except BrokerQueryError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"the broker at {config.alpaca_base_url} answers; the keys are account {number}'s")
        strangers = Account.objects.filter(active=True).exclude(broker_account=number)
        for code, other in strangers.values_list("code", "broker_account"):
            self.stdout.write(f"{code} is the broker's {other}: with these keys nothing is sent for it")
