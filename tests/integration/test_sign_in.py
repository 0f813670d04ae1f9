"""The door of the control room: the lock after failures, the second factor, cookies, and what the browser is told."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.test import Client, RequestFactory
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from backend.tradingbot.admin.locked_out import address_of
from backend.tradingbot.models import JournalEntry
from backend.tradingbot.services import second_factor

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long password of tests"
BASE = (
    "default-src 'none'; script-src 'self'{eval}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture
def ann() -> User:
    user = User.objects.create_user("ann", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name="risk"))
    return user


def sign_in(client: Client, password: str = PASSWORD, name: str = "ann", **more: Any) -> Any:
    return client.post("/admin/login/", {"username": name, "password": password}, **more)


def on(settings: Any, **changes: Any) -> None:
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)


def code_of(user: User, drift: int = 0) -> str:
    device = TOTPDevice.objects.get(user=user)
    return f"{totp(device.bin_key, drift=drift):06d}"


class TestTheLock:
    def test_five_failures_lock_the_name_at_that_address_until_a_moment_that_is_told(self, ann, client):
        given = [sign_in(client, "wrong").status_code for _ in range(5)]
        assert given == [200, 200, 200, 200, 429]
        answer = sign_in(client)
        assert answer.status_code == 429
        until = AccessAttempt.objects.get(username="ann").attempt_time + timedelta(hours=1)
        assert f"{until:%Y-%m-%d %H:%M:%S} UTC" in answer.content.decode()
        assert 3500 < int(answer.headers["Retry-After"]) <= 3600
        assert "_auth_user_id" not in client.session

    def test_nobody_elsewhere_and_no_other_name_is_locked_by_it(self, ann, client):
        for _ in range(5):
            sign_in(client, "wrong", REMOTE_ADDR="10.0.0.9")
        assert sign_in(client, "wrong", REMOTE_ADDR="10.0.0.9").status_code == 429
        assert sign_in(client, REMOTE_ADDR="10.0.0.1").status_code == 302

    @pytest.mark.parametrize(
        ("proxies", "forwarded", "expected"),
        [(0, "1.1.1.1", "9.9.9.9"), (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"), (2, "1.1.1.1, 2.2.2.2", "1.1.1.1"),
         (2, "1.1.1.1", "9.9.9.9"), (1, "", "9.9.9.9")],
    )  # fmt: skip
    def test_only_what_a_trusted_proxy_has_seen_is_believed(self, settings, proxies, forwarded, expected):
        on(settings, trusted_proxies=proxies)
        request = RequestFactory().get("/", REMOTE_ADDR="9.9.9.9", HTTP_X_FORWARDED_FOR=forwarded)
        assert address_of(request) == expected


class TestTheSecondFactor:
    def test_without_the_setting_and_without_a_device_the_password_is_enough(self, ann, client):
        sign_in(client)
        assert client.get("/admin/").status_code == 200

    def test_where_it_is_required_nothing_is_reached_before_it_is_set_up(self, ann, client, settings):
        on(settings, require_totp=True)
        sign_in(client)
        for path in ("/admin/", "/admin/tradingbot/breaker/", "/admin/auth/user/"):
            assert client.get(path).headers["Location"].startswith("/admin/second-factor/set-up/?next=")
        assert client.post("/admin/tradingbot/killswitchrun/pull/").status_code == 403
        assert client.get("/admin/overview/", headers={"HX-Request": "true"}).status_code == 403

    def test_set_up_shows_the_secret_and_the_codes_once_and_lets_in(self, ann, client, settings):
        on(settings, require_totp=True)
        sign_in(client)
        page = "/admin/second-factor/set-up/?next=/admin/tradingbot/breaker/"
        shown = client.get(page)
        assert "<svg" in shown.content.decode()
        assert "no-store" in shown.headers["Cache-Control"]
        assert client.post(page, {"code": "000000"}).status_code == 422
        assert not second_factor.has_one(ann)
        TOTPDevice.objects.update(throttling_failure_count=0)
        answer = client.post(page, {"code": code_of(ann)}).content.decode()
        codes = re.findall(r"<li>([a-z2-7]+)</li>", answer)
        assert len(set(codes)) == 10
        assert 'href="/admin/tradingbot/breaker/"' in answer
        assert client.get("/admin/").status_code == 200
        assert client.get(page).headers["Location"] == "/admin/"
        assert JournalEntry.objects.get(kind="second_factor_set").subject == "person:ann"

    @pytest.fixture
    def with_device(self, ann, client):
        """Ann has a device, and has signed in anew with the password alone."""
        device = TOTPDevice.objects.create(user=ann, name="phone", confirmed=True)
        second_factor._fresh_codes(ann)
        sign_in(client)
        return device

    def test_whoever_has_one_is_asked_for_it_and_gets_where_they_were_going(self, with_device, ann, client):
        asked = client.get("/admin/tradingbot/breaker/?o=1")
        assert asked.headers["Location"] == "/admin/second-factor/?next=%2Fadmin%2Ftradingbot%2Fbreaker%2F%3Fo%3D1"
        answer = client.post(asked.headers["Location"], {"code": code_of(ann)})
        assert answer.headers["Location"] == "/admin/tradingbot/breaker/?o=1"
        assert client.get("/admin/").status_code == 200

    def test_a_wrong_code_is_refused_and_the_right_one_right_after_it_waits(self, with_device, ann, client):
        wrong = "000000" if code_of(ann) != "000000" else "111111"
        assert client.post("/admin/second-factor/", {"code": wrong}).status_code == 422
        assert client.post("/admin/second-factor/", {"code": code_of(ann)}).status_code == 422
        assert client.get("/admin/").status_code == 302

    def test_a_code_works_once(self, with_device, ann, client):
        code = code_of(ann)
        client.post("/admin/second-factor/", {"code": code})
        other = Client()
        sign_in(other)
        assert other.post("/admin/second-factor/", {"code": code}).status_code == 422

    def test_a_backup_code_works_in_its_place_and_once(self, with_device, ann, client):
        code = StaticToken.objects.filter(device__user=ann).first().token
        assert client.post("/admin/second-factor/", {"code": f" {code.upper()} "}).status_code == 302
        assert StaticToken.objects.filter(device__user=ann).count() == 9
        assert client.get("/admin/").status_code == 200

    def test_a_device_that_is_set_up_is_not_replaced_by_whoever_has_only_the_password(self, with_device, client):
        answer = client.get("/admin/second-factor/set-up/")
        assert answer.headers["Location"] == "/admin/second-factor/"
        assert TOTPDevice.objects.count() == 1

    def test_nobody_is_led_to_another_host(self, with_device, ann, client):
        page = "/admin/second-factor/?next=https://evil.example/"
        assert client.post(page, {"code": code_of(ann)}).headers["Location"] == "/admin/"

    def test_an_administrator_takes_a_lost_one_away_with_a_reason_and_never_their_own(self, with_device, ann):
        chief = User.objects.create_user("chief", is_staff=True)
        chief.groups.add(Group.objects.get(name="admin"))
        client = Client()
        client.force_login(chief)
        page = f"/admin/auth/user/{ann.pk}/second-factor/"
        assert "Take the second factor away" in client.get(f"/admin/auth/user/{ann.pk}/change/").content.decode()
        assert client.post(page, {"reason": "phone lost, seen in person"}).status_code == 302
        assert not second_factor.has_one(ann)
        entry = JournalEntry.objects.get(kind="second_factor_taken")
        assert (entry.actor, entry.data["reason"]) == ("admin:chief", "phone lost, seen in person")
        assert client.post(f"/admin/auth/user/{chief.pk}/second-factor/", {"reason": "x"}).status_code == 403


class TestTheBrowserIsTold:
    def test_the_policy_word_for_word(self, client):
        told = client.get("/admin/login/").headers
        assert sorted(told["Content-Security-Policy"].split("; ")) == sorted(
            BASE.format(eval=" 'unsafe-eval'").split("; ")
        )
        assert told["Referrer-Policy"] == told["Cross-Origin-Opener-Policy"] == "same-origin"
        assert told["Cross-Origin-Resource-Policy"] == "same-origin"
        assert told["Permissions-Policy"].startswith("camera=(), geolocation=(), microphone=()")
        assert (told["X-Frame-Options"], told["X-Content-Type-Options"]) == ("DENY", "nosniff")

    @pytest.mark.parametrize("path", ["/api/docs/", "/api/schema/", "/healthz", "/api/v1/orders", "/nowhere"])
    def test_outside_the_admin_no_code_is_made_of_text(self, client, path):
        told = client.get(path).headers["Content-Security-Policy"]
        assert sorted(told.split("; ")) == sorted(BASE.format(eval="").split("; "))

    def test_the_page_of_the_api_has_no_inline_script(self, client):
        page = client.get("/api/docs/").content.decode()
        assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page) == []

    def test_no_template_of_ours_has_an_inline_script_or_handler(self):
        found = []
        for path in (ROOT / "backend/tradingbot/templates").rglob("*.html"):
            text = path.read_text()
            if re.search(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=\"|\sstyle=\"|javascript:", text):
                found.append(path.name)
        assert found == ["report.html"]  # it is saved and sent as a file of its own, so its style travels with it

    def test_cookies_are_not_for_scripts_nor_for_other_sites(self, ann, client, settings):
        client.get("/admin/login/")
        sign_in(client)
        for name in ("sessionid", "csrftoken"):
            assert (client.cookies[name]["httponly"], client.cookies[name]["samesite"]) == (True, "Lax")
        assert client.cookies["sessionid"]["max-age"] == 12 * 3600
