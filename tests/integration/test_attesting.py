"""A person says what became of an order: with a reason, with a second person, and only while nobody knows better."""

from __future__ import annotations

from typing import Any

import pytest

from backend.tradingbot.models import Breaker, JournalEntry, Order
from tests.integration.order_life import (
    CLOCK,
    RESTING,
    breaks,
    give_up,
    place_at_broker,
    poll,
    poll_until,
    reserved,
)

pytestmark = pytest.mark.django_db(transaction=True)


class TestAttesting:
    @pytest.fixture
    def doubtful(self, gateway, broker):
        gateway.tick()
        broker.fault("drop_before")
        assert gateway.order("a", **RESTING).status_code == 202
        return f"orders/{gateway.prefix}-a/attest"

    @pytest.fixture
    def second(self, settings):
        from backend.tradingbot.services.keys import create_key

        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"attest_second_person": True})
        return create_key(name="risk-two", role="risk")[1]

    def say(self, gateway: Any, path: str, token: str | None = None, **changes: Any) -> Any:
        body = {"account": "main", "outcome": "never_arrived", "reason": "told on the phone", **changes}
        return gateway.call("POST", path, body, token=token or gateway.risk)

    def test_an_outcome_takes_effect_at_once_with_its_reason(self, gateway, doubtful):
        answer = self.say(gateway, doubtful)
        assert (answer.status_code, answer.json()["order"]["status"]) == (200, "never_arrived")
        order = Order.objects.get()
        assert (order.evidence["give_up"]["attested_by"], order.watch_until is not None) == ("key:risk", True)
        kinds = list(JournalEntry.objects.filter(actor="key:risk").values_list("kind", flat=True).order_by("seq"))
        assert kinds[-2:] == ["attested", "order_transition"]
        assert self.say(gateway, doubtful).json()["code"] == "order_not_in_doubt"

    def test_a_second_person_has_to_say_the_same(self, gateway, doubtful, second):
        for _ in range(2):
            answer = self.say(gateway, doubtful, outcome="rejected")
            assert (answer.status_code, answer.json()["order"]["status"]) == (202, "in_doubt")
        assert self.say(gateway, doubtful, second).json()["code"] == "attestation_differs"
        answer = self.say(gateway, doubtful, second, outcome="rejected")
        assert (answer.status_code, answer.json()["order"]["status"]) == (200, "rejected")
        told = answer.json()["attestation"]
        assert (told["attested_by"], told["confirmed_by"]) == ("key:risk", "key:risk-two")
        assert reserved() == 0

    def test_one_person_with_two_keys_is_one_person(self, gateway, doubtful, second):
        from backend.tradingbot.services.attestations import attest

        said = {"outcome": "rejected", "reason": "told on the phone", "clock": CLOCK}
        for actor in ("key:ann", "admin:Ann"):
            order, told = attest(Order.objects.select_related("account").get(), actor=actor, **said)
            assert (order.status, told.confirmed_by) == ("in_doubt", "")
        order, told = attest(Order.objects.select_related("account").get(), actor="key:bob", **said)
        assert (order.status, told.confirmed_by) == ("rejected", "key:bob")

    def test_who_attested_can_think_again(self, gateway, doubtful, second):
        self.say(gateway, doubtful, outcome="rejected")
        assert self.say(gateway, doubtful).status_code == 202
        assert self.say(gateway, doubtful, second).json()["order"]["status"] == "never_arrived"

    def test_a_lost_sale_that_the_desk_denies_frees_what_it_would_have_sold(self, gateway, broker):
        gateway.tick()
        gateway.order("held")
        poll_until(gateway, "held", "filled")
        give_up(gateway, broker, side="sell", limit_price="110.00")
        assert gateway.order("stuck", side="sell").json()["code"] == "order_denied"
        path = f"orders/{gateway.prefix}-gone/attest"
        assert self.say(gateway, path).json()["code"] == "order_not_in_doubt"
        answer = self.say(gateway, path, outcome="rejected")
        assert (answer.status_code, answer.json()["order"]["status"], breaks()) == (200, "rejected", [])
        assert gateway.order("free", side="sell").status_code == 201
        place_at_broker(broker, f"{gateway.prefix}-gone", side="buy")
        poll()
        assert Breaker.objects.get(scope="account:main").reason == f"contradiction {gateway.prefix}-gone"

    def test_what_the_broker_knows_beats_what_a_person_says(self, gateway, broker, doubtful):
        place_at_broker(broker, f"{gateway.prefix}-a")
        answer = self.say(gateway, doubtful)
        assert (answer.status_code, answer.json()["code"]) == (409, "order_found")
        assert gateway.read("a")["status"] == "accepted"

    def test_an_accepted_order_needs_its_id_at_the_broker(self, gateway, broker, doubtful):
        wrong = self.say(gateway, doubtful, outcome="accepted")
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "broker_order_id")
        other = place_at_broker(broker, f"{gateway.prefix}-other")["id"]
        taken = self.say(gateway, doubtful, outcome="accepted", broker_order_id=other)
        assert taken.json()["code"] == "broker_order_id_taken"
        answer = self.say(gateway, doubtful, outcome="accepted", broker_order_id="from-the-desk")
        assert (answer.json()["order"]["status"], answer.json()["order"]["broker_order_id"]) == (
            "accepted", "from-the-desk",
        )  # fmt: skip

    @pytest.mark.parametrize("changes", [{"reason": " "}, {"outcome": "filled"}, {"odd": "1"}, {"account": None}])
    def test_what_makes_no_sense_is_named(self, gateway, doubtful, changes):
        answer = self.say(gateway, doubtful, **changes)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, next(iter(changes)))

    def test_only_the_risk_role_may(self, gateway, doubtful):
        assert self.say(gateway, doubtful, gateway.trader).json()["code"] == "role_not_allowed"
