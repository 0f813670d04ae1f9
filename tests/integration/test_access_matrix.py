"""Every address asked by every caller: who is not named in its row is turned away, and no address lacks a row."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import NoReverseMatch, reverse

from backend.tradingbot.services.keys import create_key
from tests.integration.access import BY_KEY, CALLERS, ROWS, Row, calls, make_callers, routes
from tests.integration.conftest import Gateway

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_call_of_the_url_conf_has_a_row_and_every_row_a_call() -> None:
    assert set(calls()) == set(BY_KEY)


def test_a_new_address_without_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BY_KEY, ("orders", "post"))
    assert ("orders", "post") in set(calls()) - set(BY_KEY)


def ask(url: str, row: Row, token: str | None) -> requests.Response:
    try:
        address = url + reverse(row.name, kwargs=row.path)
    except NoReverseMatch:  # a view without a name goes by its address
        address = f"{url}/{row.name}"
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if row.body is None else json.dumps(row.body)
    return requests.request(
        row.method, address, params=row.query, data=data, headers=headers, timeout=30, allow_redirects=False
    )


def test_each_caller_gets_in_where_its_row_says_so_and_nowhere_else(gateway: Gateway) -> None:
    tokens: dict[str, Any] = {"nobody": None, **make_callers()}
    wrong = []
    for row in ROWS:
        for who in CALLERS:
            answer = ask(gateway.url, row, tokens[who])
            turned_away = answer.status_code in (401, 403)
            expected = (401 if who == "nobody" else 403) if who not in row.may else "let in"
            wrongly = turned_away != (who not in row.may) or (turned_away and answer.status_code != expected)
            if wrongly or answer.status_code >= 500:
                wrong.append((row.key, who, answer.status_code, expected, answer.text[:160]))
    assert wrong == []


def admin_pages() -> list[str]:
    """Every address of the admin that can be written down; those with a row in them are asked for row 1."""
    found = []
    for address, pattern in routes():
        if address.startswith("admin/") and pattern.name:
            names = pattern.pattern.converters or getattr(pattern.pattern, "regex", None) and {}
            try:
                found.append(reverse(f"admin:{pattern.name}", kwargs=dict.fromkeys(names or {}, "1")))
            except NoReverseMatch:
                found.append("/" + address)
    return sorted(set(found))


# What anybody with an account of the site sees: the page to sign in, their password, and a start page without links.
ANYBODY = {"/admin/login/", "/admin/jsi18n/"}
# The overview leaves out each part that one has no right to.
ANY_STAFF = ANYBODY | {"/admin/", "/admin/overview/", "/admin/search/", "/admin/logout/"}
ANY_STAFF |= {"/admin/password_change/", "/admin/password_change/done/", "/admin/second-factor/set-up/"}


def opened(client: Client, **more: Any) -> set[str]:
    pages = [page for page in admin_pages() if "<" not in page and "(?P" not in page]
    assert len(pages) > 60
    return {page for page in pages if client.get(page, **more).status_code == 200}


def test_the_admin_stays_shut_without_the_right_to_a_page() -> None:
    people = get_user_model().objects
    _, key = create_key(name="m-admin", role="admin")
    guest, outsider, newcomer = Client(), Client(), Client()
    outsider.force_login(people.create_user("outsider"))
    newcomer.force_login(people.create_user("newcomer", is_staff=True))
    assert opened(guest) <= ANYBODY
    assert opened(guest, headers={"Authorization": f"Bearer {key}"}) <= ANYBODY
    assert opened(outsider) <= ANYBODY
    assert opened(newcomer) <= ANY_STAFF


def test_a_trader_reads_what_governs_it_and_nothing_of_another_account(gateway: Gateway) -> None:
    token = make_callers()["stranger"]
    for scope in ("account:main", "firm"):
        assert gateway.call("POST", f"breakers/{scope}/trip", {"reason": "look"}, gateway.risk).status_code == 200
    scopes = [row["scope"] for row in gateway.call("GET", "breakers", token=token).json()["breakers"]]
    assert sorted(scopes) == ["account:other", "firm", "strategy:theirs"]
    limits = gateway.call("GET", "limits", token=token).json()["limits"]
    assert limits
    assert {row["scope"] for row in limits} & {"account:main", "strategy:mean"} == set()


def test_a_trader_reads_of_a_firm_wide_kill_only_its_own_orders(gateway: Gateway) -> None:
    gateway.tick()
    assert gateway.order("resting", type="limit", limit_price="99.00").status_code == 201
    made = make_callers()
    run = gateway.call("POST", "kill-switch", {"scope": "firm", "reason": "test"}, gateway.risk).json()["run"]
    asked = {who: gateway.call("GET", f"kill-switch/{run}", token=made[who]).json() for who in made}
    assert [row["account"] for row in asked["trader"]["orders"]] == ["main"]
    assert asked["stranger"]["orders"] == []
    assert len(asked["viewer"]["orders"]) == 1
    narrow = gateway.call("POST", "kill-switch", {"scope": "account:main"}, gateway.risk).json()["run"]
    assert gateway.call("GET", f"kill-switch/{narrow}", token=made["stranger"]).status_code == 403
