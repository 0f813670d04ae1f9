"""``manage.py replay_decision <client_order_id>``: judge a stored decision again; it must come out the same.

With ``--session-at`` the market session is that of another moment, and what the gates would have said is printed.
"""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_time
from backend.tradingbot.models import Order
from backend.tradingbot.selectors.replays import judged_in_session, replayed


class Command(BaseCommand):
    help = "Judge a stored decision again from its stored snapshot."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("client_order_id", nargs="?", help="Left out with --all.")
        parser.add_argument("--account", help="Needed when several accounts used the id.")
        parser.add_argument("--session-at", metavar="TIME", help="As if the market session were that of TIME.")
        parser.add_argument("--all", action="store_true", help="Every order that was decided.")

    def handle(self, *args: Any, **options: Any) -> None:
        orders = Order.objects.select_related("account", "strategy").exclude(decision={})
        if options["account"]:
            orders = orders.filter(account__code=options["account"])
        if not options["all"]:
            if not options["client_order_id"]:
                raise CommandError("name a client_order_id, or say --all")
            orders = orders.filter(client_order_id=options["client_order_id"])
            if orders.count() != 1:
                raise CommandError(f"{orders.count()} decided orders have this id; name the account with --account")
        if options["session_at"]:
            moment = self._moment(options["session_at"])
            for order in orders:
                self._show(order, moment)
            return
        differ = 0
        for order in orders.order_by("id").iterator(chunk_size=500):
            differ += self._judge(order)
        if differ:
            raise CommandError(f"{differ} decision(s) came out other than stored")

    def _moment(self, text: str) -> datetime:
        errors = FieldErrors()
        moment = parse_time(text, "--session-at", errors)
        if moment is None:
            raise CommandError(str(InvalidInputError(errors.errors)))
        return moment

    def _show(self, order: Order, moment: datetime) -> None:
        decision = judged_in_session(order, moment)
        self.stdout.write(f"{order.client_order_id}: {'allowed' if decision.allowed else 'denied'} in that session")
        for check in decision.checks:
            if not check.passed:
                self.stdout.write(f"  {check.gate}: {check.code}: {check.message}. {check.remedy}")

    def _judge(self, order: Order) -> bool:
        try:
            found = replayed(order)
        except InvalidInputError as error:
            by = f"stored by build {order.build_id}, cannot be judged by this one"
            self.stdout.write(f"{order.client_order_id}: {by} ({error.message})")
            return True
        word = "allowed" if found.allowed else "denied"
        if found.same:
            self.stdout.write(f"{found.client_order_id}: {word}, the same as stored by {found.made_by}")
            return False
        self.stdout.write(f"{found.client_order_id}: {word} now; differs from what {found.made_by} stored:")
        for gate, (stored, now) in found.differences.items():
            self.stdout.write(f"  {gate}: stored {json.dumps(stored)}, now {json.dumps(now)}")
        return True
