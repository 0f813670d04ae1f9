"""The evening over the API: the broker's statement as it came, a file that differs, two people, free again."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

import pytest

from tests.integration.test_recon_broker import Desk, desk, gate, upload

__all__ = ["desk"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_file_with_another_price_blocks_until_two_people_have_closed_its_breaks(desk: Desk) -> None:
    assert desk.buy("one").status_code == 201
    assert desk.buy("two", qty="3").status_code == 201
    desk.run()
    assert desk.breaks() == []
    (kept,) = desk.api.call("GET", "recon/statements?account=main", token=desk.ann).json()["statements"]
    original = desk.api.call("GET", f"recon/statements/{kept['id']}/original", token=desk.ann).content
    assert hashlib.sha256(original).hexdigest() == kept["sha256"]
    body = json.loads(original)
    fill = next(each for each in body["activities"] if each["activity_type"] == "FILL")
    fill["price"] = str(Decimal(fill["price"]) + Decimal("0.05"))
    for name in ("cash", "equity"):
        body["account"][name] = str(Decimal(body["account"][name]) - Decimal("0.05") * Decimal(fill["qty"]))
    assert upload(desk, json.dumps(body).encode()).status_code == 201
    desk.run()
    found = desk.breaks()
    assert [(each["kind"], each["difference"]) for each in found] == [("price", {"price": "0.05", "cash": "-0.25"})]
    assert gate(desk.buy("three")) == ["reconciliation"]
    for each in found:
        assert desk.step(each["id"], "explain", desk.ann).status_code == 200
        assert desk.step(each["id"], "close", desk.ann).json()["code"] == "maker_is_checker"
        assert desk.step(each["id"], "close", desk.ben).status_code == 200
    assert desk.buy("four").status_code == 201
    again = desk.run()
    assert desk.breaks() == []
    page = desk.api.call("GET", f"recon/runs/{again['id']}/report", token=desk.ann).text
    assert all(name in page for name in ("key:ann", "key:ben"))
