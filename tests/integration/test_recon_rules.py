"""Rules of reconciliation that make no sense are refused by their field; what is to be told is told until it was."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail

from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.models import Affirmation, ReconPolicy
from backend.tradingbot.services import affirmations, recon_summary
from backend.tradingbot.services.recon_policies import policy_of, set_policy
from tests.integration.recon_house import MONDAY, House

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tolerances", []),
        ("tolerances", {"time": "inf"}),
        ("tolerances", {"time": "1e300"}),
        ("tolerances", {"cash": "NaN"}),
        ("tolerances", {"max_differences": "inf"}),
        ("tolerances", {"max_differences": 1.5}),
        ("warnings", "fee"),
        ("warnings", 5),
        ("warnings", [["fee"]]),
        ("fees", []),
        ("fees", {"share": None}),
        ("upload_only", "no"),
        ("second_signer", 1),
        ("colour", "red"),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_their_field(house, name, value):
    before = ReconPolicy.objects.count()
    with pytest.raises(InvalidInputError, match=name):
        set_policy(house.account, {name: value}, actor="ann", reason="r", clock=house.clock)
    assert ReconPolicy.objects.count() == before


def test_rules_that_make_sense_are_in_force_at_once(house):
    changes = {"tolerances": {"cash": "0.05", "time": 3}, "second_signer": True, "fees": {"share": "0.01"}}
    set_policy(house.account, changes, actor="ann", reason="r", clock=house.clock)
    found = policy_of(house.account)
    tolerances = found.tolerances
    assert (str(tolerances.cash), tolerances.time, found.second_signer) == ("0.05", timedelta(seconds=3), True)


def test_an_overdue_signature_is_mailed_again_until_the_mail_was_sent(house, settings, monkeypatch):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"mail_to": "desk@example.com"})
    settings.TRADINGBOT.__dict__.pop("recipients", None)
    house.trade(MONDAY)
    house.close(MONDAY)
    recon_summary.tell(clock=house.clock)
    mail.outbox.clear()
    house.clock.at = Affirmation.objects.get().due_at + timedelta(seconds=1)

    def refuse(*_: object) -> int:
        raise ConnectionRefusedError

    with monkeypatch.context() as down:
        down.setattr(recon_summary, "send_mail", refuse)
        recon_summary.tell(clock=house.clock)
    for _ in range(2):
        recon_summary.tell(clock=house.clock)
    assert ["Not signed in time" in each.subject for each in mail.outbox] == [True]


def test_figures_that_are_not_those_of_their_hash_are_not_signed(house):
    house.trade(MONDAY)
    house.close(MONDAY)
    found = Affirmation.objects.get()
    Affirmation.objects.update(snapshot={**found.snapshot, "cash": "1"})
    with pytest.raises(ConflictError, match="not the figures"):
        affirmations.sign(found.pk, sha256=found.sha256, actor="ann", clock=house.clock)
    Affirmation.objects.update(snapshot=found.snapshot)
    assert affirmations.sign(found.pk, sha256=found.sha256, actor="ann", clock=house.clock).signed_by == "ann"
