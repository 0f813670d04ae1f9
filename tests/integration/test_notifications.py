"""People are told of what happened, once, on every channel that is set, and of nothing that was rolled back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from pydantic import SecretStr

from backend.settings.config import Config
from backend.tradingbot import tasks
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.models import (
    Account,
    DataStop,
    JournalEntry,
    Notification,
    NotificationDelivery,
    Order,
    Strategy,
)
from backend.tradingbot.ops import notices
from backend.tradingbot.services import (
    acknowledging,
    breakers,
    breaks,
    channels,
    handing_over,
    journal_proof,
    kill_switch,
    notifications,
)
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.locks import locked_risk
from tests.integration.receiver import Receiver, receiver

__all__ = ["receiver"]
pytestmark = pytest.mark.django_db
TOKEN = "4711:planted-telegram-token"
SECRET_PATH = "/services/T000/planted-webhook-secret"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 2, 15, 0, tzinfo=UTC))


@pytest.fixture
def account() -> Account:
    return create_account(code="main", cash=Decimal(1000), broker_account="told-1", symbols=["AAPL"])


def on(settings: Any, **changes: Any) -> None:
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"public_url": "https://bot.example/", **changes})
    for name in ("mail_server", "alarm_recipients", "recipients"):
        settings.TRADINGBOT.__dict__.pop(name, None)


def webhook(settings: Any, receiver: Receiver, **more: Any) -> None:
    on(settings, notify_webhook_url=SecretStr(receiver.url + SECRET_PATH), **more)


def deliver(clock: FixedClock) -> None:
    for channel in handing_over.sweep(clock=clock):
        handing_over.hand_over(channel, clock=clock)


def told(kind: str | None = None) -> list[Notification]:
    rows = Notification.objects.order_by("id")
    return list(rows.filter(kind=kind) if kind else rows)


def order_in_doubt(account: Account, name: str, since: datetime, status: str = "in_doubt") -> Order:
    strategy = Strategy.objects.filter(code="mean").first() or create_strategy(code="mean", mode="live")
    return Order.objects.create(
        account=account, strategy=strategy, client_order_id=name, body_digest="0" * 64, symbol="AAPL", side="buy",
        qty=5, type="market", time_in_force="day", status=status, build_id="b", trace_id="t", created_at=since,
        updated_at=since,
    )  # fmt: skip


class TestTheOutbox:
    def test_a_trip_is_told_of_with_what_where_since_when_who_and_what_to_do(self, account, clock):
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        (row,) = told()
        assert (row.kind, row.severity, row.title) == ("trip", "critical", "TRIPPED account:main: look")
        assert row.text.splitlines()[0] == (
            "What: the circuit breaker of account main opened, by key:desk: look. "
            "New risk is refused; orders that only reduce a position pass."
        )
        names = [line.split(":")[0] for line in row.text.splitlines()]
        assert names == ["What", "Where", "Since", "Figures", "Who may lift it", "What to do"]
        assert "Since: 2026-03-02 15:00:00 UTC" in row.text
        assert "after the cooldown of 30 min" in row.text
        assert row.escalate_at == clock.now() + timedelta(minutes=15)

    def test_a_trip_that_is_rolled_back_tells_nobody(self, account, clock, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks() as woken, pytest.raises(RuntimeError), transaction.atomic():
            guard = breakers.lock_breaker("account:main", actor="x", clock=clock)
            guard.pure.trip("look")
            guard.save()
            assert len(told()) == 1
            raise RuntimeError
        assert (told(), woken) == ([], [])

    def test_a_fact_is_told_of_once(self, account, clock):
        notice = notices.journal_broken(["firm"])
        first = notifications.note(notice, ["a", "b"], subject="journal", at=clock.now())
        assert notifications.note(notice, ["b", "a"], subject="journal", at=clock.now()) is None
        again = notifications.note(notice, ["b", "c"], subject="journal", at=clock.now())
        assert [fact.key for fact in first.facts.order_by("key")] == ["a", "b"]
        assert [fact.key for fact in again.facts.all()] == ["c"]

    def test_the_worker_is_asked_on_commit_and_a_dead_queue_harms_nobody(
        self, account, clock, monkeypatch, django_capture_on_commit_callbacks
    ):
        asked = []

        def send_task(name: str, arguments: list[int], **options: Any) -> None:
            asked.append((name, arguments))
            raise ConnectionError("the queue is gone")

        monkeypatch.setattr("backend.tradingbot.services.notifications.current_app.send_task", send_task)
        with django_capture_on_commit_callbacks(execute=True):
            breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        assert asked == [("tradingbot.send_notification", [told()[0].pk])]
        assert tasks.send_notification.name == "tradingbot.send_notification"


class TestTheFacts:
    def test_a_reset_needs_no_answer(self, account, clock):
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        breakers.reset("account:main", actor="key:desk", reason="fine", force=True, clock=clock)
        reset = told("reset")[0]
        assert (reset.severity, reset.escalate_at) == ("info", None)
        assert reset.title == "RESET account:main by key:desk"

    def test_the_kill_switch_says_who_pulled_it_and_what_becomes_of_positions(self, account, clock):
        run = kill_switch.pull("account:main", flattening=True, reason="fire", actor="admin:ann", clock=clock)
        (row,) = told()
        assert row.title == "KILL SWITCH account:main by admin:ann"
        assert f"positions are closed. Run {run.token}." in row.text

    @pytest.mark.parametrize(("severity", "expected"), [("warning", []), ("critical", ["CRITICAL BREAK fee: f-1"])])
    def test_only_a_critical_break_is_told_of(self, account, clock, severity, expected):
        with locked_risk("account:main") as row:
            breaks.open_break(row, kind="fee", subject="f-1", severity=severity, cause="fills", clock=clock)
        assert [each.title for each in told()] == expected

    def test_a_break_that_becomes_critical_is_told_of_once(self, account, clock):
        for severity, qty in [("warning", 1), ("critical", 2), ("critical", 3)]:
            with locked_risk("account:main") as row:
                breaks.open_break(
                    row, kind="qty", subject="x", severity=severity, cause="fills", clock=clock, ours={"qty": qty}
                )
        assert [each.kind for each in told()] == ["break"]

    def test_orders_in_doubt_are_told_of_after_a_minute_and_once_an_account(self, account, clock):
        orders = [order_in_doubt(account, f"told-{n}", clock.now()) for n in range(3)]
        order_in_doubt(account, "told-done", clock.now(), status="filled")
        clock.advance(59)
        assert notifications.note_what_lasts(clock=clock) == 0
        clock.advance(1)
        assert [notifications.note_what_lasts(clock=clock) for _ in range(2)] == [1, 0]
        (row,) = told("in_doubt")
        assert row.title == "3 ORDERS IN DOUBT of account main"
        assert all(order.client_order_id in row.text for order in orders)
        order_in_doubt(account, "told-9", clock.now() - timedelta(seconds=61))
        assert notifications.note_what_lasts(clock=clock) == 1
        assert told("in_doubt")[1].title == "IN DOUBT for 1 min: told-9"

    def test_a_stop_of_market_data_that_lasts_is_told_of_and_one_that_is_over_is_not(self, clock):
        stop = {"check_name": "crossed_quote", "source": "ticks", "since": clock.now(), "build_id": "b"}
        DataStop.objects.create(symbol="AAPL", **stop)
        DataStop.objects.create(symbol="MSFT", released_at=clock.now(), released_by="feed", reason="x", **stop)
        clock.advance(9)
        assert notifications.note_what_lasts(clock=clock) == 0
        clock.advance(1)
        assert [notifications.note_what_lasts(clock=clock) for _ in range(2)] == [1, 0]
        assert told("data_stop")[0].title == "DATA STOPPED AAPL"

    def test_a_broken_chain_is_told_of_once_a_fault(self, account, clock):
        proof = journal_proof.Proof({"firm": journal_proof.ChainReport(3, "h", 4, "entry 4 is gone")})
        for _ in range(2):
            journal_proof._remember(proof, clock)
        assert [row.title for row in told("journal")] == ["JOURNAL BROKEN: firm"]


class TestHandingOver:
    def test_each_channel_gets_it_once_with_a_link(self, account, clock, settings, receiver):
        changes = {
            "mail_url": SecretStr("smtp://127.0.0.1:1"), "notify_mail_to": "desk@example.com, risk@example.com",
            "notify_telegram_token": SecretStr(TOKEN), "notify_telegram_chat": "-100",
            "notify_telegram_url": receiver.url,
        }  # fmt: skip
        webhook(settings, receiver, **changes)
        breakers.trip("account:main", actor="key:desk", reason="a < b & c", clock=clock)
        for _ in range(2):
            deliver(clock)
        row = told()[0]
        link = f"Page: https://bot.example/admin/tradingbot/notification/{row.pk}/change/"
        assert [path for path, _, _ in sorted(receiver.got)] == [f"/bot{TOKEN}/sendMessage", SECRET_PATH]
        (telegram,), (slack,) = receiver.texts(f"/bot{TOKEN}/sendMessage"), receiver.texts(SECRET_PATH)
        assert telegram == f"{row.title}\n\n{row.text}\n{link}"
        assert "a &lt; b &amp; c" in slack
        assert {key for _, _, key in receiver.got} == {f"notification-{row.pk}-0"}
        (message,) = mail.outbox
        assert message.subject == "[tradingbot] TRIPPED account:main: a < b & c"
        assert message.to == ["desk@example.com", "risk@example.com"]
        assert message.extra_headers["Message-ID"].startswith(f"<notification-{row.pk}-0@")
        assert message.body.endswith(link)
        states = row.deliveries.values_list("channel", "state", "attempts")
        assert sorted(states) == [("email", "sent", 1), ("telegram", "sent", 1), ("webhook", "sent", 1)]

    def test_without_a_channel_it_stands_in_the_page(self, account, clock, settings):
        on(settings)
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        assert told()[0].planned_at == clock.now()
        assert NotificationDelivery.objects.count() == 0

    def test_a_failure_is_tried_again_later_and_later_and_names_no_secret(
        self, account, clock, settings, receiver, caplog
    ):
        webhook(settings, receiver)
        receiver.answers = [(500, {}, b""), (404, {}, b""), (302, {"Location": "http://127.0.0.1:1/"}, b"")]
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        pauses = []
        for _ in range(3):
            deliver(clock)
            row = NotificationDelivery.objects.get()
            pauses.append((row.due_at - clock.now()).total_seconds())
            deliver(clock)  # nothing is due yet
            clock.advance(pauses[-1])
        assert (pauses, row.problem) == ([2.0, 4.0, 8.0], "the webhook answered 302")
        deliver(clock)
        assert NotificationDelivery.objects.get().state == "sent"
        assert len(receiver.got) == 4
        assert "planted" not in caplog.text

    def test_nobody_there_names_no_secret(self, account, clock, settings, caplog):
        on(
            settings,
            notify_telegram_token=SecretStr(TOKEN),
            notify_telegram_chat="1",
            notify_telegram_url="http://127.0.0.1:1",
        )
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        assert NotificationDelivery.objects.get().problem == "Telegram: ConnectionError"
        assert "planted" not in caplog.text

    @pytest.mark.parametrize(
        ("headers", "body"), [({"Retry-After": "40"}, b""), ({}, b'{"parameters": {"retry_after": 40}}')]
    )
    def test_a_far_side_that_asks_for_patience_gets_it(self, account, clock, settings, receiver, headers, body):
        webhook(settings, receiver)
        receiver.answers = [(429, headers, body)]
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        assert NotificationDelivery.objects.get().due_at == clock.now() + timedelta(seconds=40)

    def test_a_sender_killed_after_the_far_side_took_it_sends_it_again_with_the_same_key(
        self, account, clock, settings, receiver, monkeypatch
    ):
        webhook(settings, receiver)
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        send = channels.send

        def killed(*args: Any, **options: Any) -> None:
            send(*args, **options)
            raise SystemExit

        monkeypatch.setattr(channels, "send", killed)
        with pytest.raises(SystemExit):
            deliver(clock)
        row = NotificationDelivery.objects.get()
        assert (row.state, row.attempts) == ("waiting", 1)
        monkeypatch.setattr(channels, "send", send)
        deliver(clock)
        assert [key for _, _, key in receiver.got] == [f"notification-{row.notification_id}-0"] * 2
        assert NotificationDelivery.objects.get().state == "sent"

    def test_a_channel_that_is_down_holds_up_no_other(self, account, clock, settings, receiver):
        down = {"notify_telegram_token": SecretStr(TOKEN), "notify_telegram_chat": "1"}
        webhook(settings, receiver, **down, notify_telegram_url="http://127.0.0.1:1")
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        states = dict(NotificationDelivery.objects.values_list("channel", "state"))
        assert states == {"webhook": "sent", "telegram": "waiting"}

    def test_a_burst_is_one_message(self, clock, settings, receiver):
        webhook(settings, receiver)
        for number in range(20):
            notice = notices.in_doubt("main", [f"o-{number}"], ["AAPL"], 60)
            notifications.note(notice, [f"burst:{number}"], subject=f"o-{number}", at=clock.now())
        deliver(clock)
        ((_, body, _),) = receiver.got
        assert body["text"].startswith("*20 notifications, 20 of them critical; the first: IN DOUBT for 1 min: o-0*")
        assert body["text"].count("IN DOUBT") == 21
        assert set(NotificationDelivery.objects.values_list("state", flat=True)) == {"sent"}

    def test_after_a_day_it_is_given_up_and_says_so(self, account, clock, settings):
        on(settings, notify_webhook_url=SecretStr("http://127.0.0.1:1/x"))
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        clock.advance(24 * 3600)
        handing_over.hand_over("webhook", clock=clock)
        row = NotificationDelivery.objects.get()
        assert (row.state, row.problem) == ("failed", "the webhook: ConnectionError")


class TestAnswering:
    def test_what_nobody_acknowledges_is_sent_again_three_times(self, account, clock, settings, receiver):
        webhook(settings, receiver)
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        for _ in range(5):
            clock.advance(15 * 60)
            deliver(clock)
        titles = [body["text"].splitlines()[0] for _, body, _ in receiver.got]
        plain = "TRIPPED account:main: look"
        assert titles == [f"*{plain}*", *(f"*NOT ACKNOWLEDGED ({n}): {plain}*" for n in (1, 2, 3))]

    def test_what_is_acknowledged_is_not_and_the_journal_says_by_whom(self, account, clock, settings, receiver):
        webhook(settings, receiver)
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        deliver(clock)
        row = acknowledging.acknowledge(told()[0].pk, actor="admin:ann", note="looking", clock=clock)
        clock.advance(3600)
        deliver(clock)
        assert len(receiver.got) == 1
        entry = JournalEntry.objects.get(kind="notification_acknowledged")
        assert (entry.actor, entry.subject, entry.data["note"]) == ("admin:ann", "account:main", "looking")
        with pytest.raises(ConflictError, match="admin:ann has acknowledged it"):
            acknowledging.acknowledge(row.pk, actor="admin:bob", note="me too", clock=clock)
        with pytest.raises(InvalidInputError):
            acknowledging.acknowledge(row.pk, actor="admin:bob", note=" ", clock=clock)

    def test_the_page_shows_it_and_takes_the_answer(self, account, clock, admin_client):
        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        page = f"/admin/tradingbot/notification/{told()[0].pk}"
        assert "nobody yet" in admin_client.get("/admin/tradingbot/notification/").content.decode()
        assert "Who may lift it" in admin_client.get(f"{page}/change/").content.decode()
        answer = admin_client.post(f"{page}/acknowledge/", {"reason": "on it"}, follow=True)
        assert "Acknowledged: it is not sent again." in answer.content.decode()
        assert told()[0].acknowledged_by == "admin:admin"

    def test_the_right_to_see_it_is_not_the_right_to_answer(self, account, clock, client, django_user_model):
        from django.contrib.auth.models import Permission

        breakers.trip("account:main", actor="key:desk", reason="look", clock=clock)
        person = django_user_model.objects.create_user("viv", password="x", is_staff=True)
        person.user_permissions.add(Permission.objects.get(codename="view_notification"))
        client.force_login(person)
        page = f"/admin/tradingbot/notification/{told()[0].pk}"
        assert "Acknowledge</" not in client.get(f"{page}/change/").content.decode()
        assert client.post(f"{page}/acknowledge/", {"reason": "on it"}).status_code == 403
        assert told()[0].acknowledged_at is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"notify_webhook_url": "http://hooks.example/x"}, "NOTIFY_WEBHOOK_URL must start with https://"),
        ({"notify_telegram_url": "http://telegram.example"}, "NOTIFY_TELEGRAM_URL must start with https://"),
        ({"notify_telegram_token": "1:x"}, "set both or neither"),
        ({"public_url": "bot.example"}, "PUBLIC_URL must start with https://"),
    ],
)
def test_a_channel_that_would_leak_or_lead_nowhere_stops_the_start(changes, said):
    with pytest.raises(ValueError, match=said):
        Config(**changes)  # type: ignore[call-arg]
