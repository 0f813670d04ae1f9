"""The watch itself: what it must notice, so that a quiet test means something."""

from __future__ import annotations

import pytest

from tests.browser import browsing


@pytest.mark.parametrize(
    ("bypassed", "told"),
    [(False, "violates the following Content Security Policy"), (True, "left the host: http://192.0.2.1/away")],
    ids=["held back by the policy", "let go"],
)
def test_an_error_on_the_console_and_a_request_to_another_host_are_noticed(visit, bypassed, told):
    visitor = visit(bypass_csp=bypassed)
    page = visitor.open("/admin/login/")
    page.evaluate("console.error('planted')")
    page.evaluate("fetch('http://192.0.2.1/away', {mode: 'no-cors'}).catch(() => 0); 0")
    page.wait_for_timeout(200)
    noticed, visitor.problems = "\n".join(visitor.problems), []
    assert "console: planted" in noticed
    assert told in noticed


def test_an_answer_of_another_status_fails_unless_it_is_expected(visit):
    visitor = visit()
    with pytest.raises(AssertionError, match="answered"):
        visitor.open("/no-such-page")
    visitor.problems = []
    visitor.open("/no-such-page", status=404)


def test_a_serious_fault_of_access_is_found(visit):
    visitor = visit()
    page = visitor.open("/admin/login/")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:image/gif;base64,R0lGODlhAQABAAAAACw=\">')"
    )
    with pytest.raises(AssertionError, match="image-alt"):
        visitor.need_accessible()


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_browser_the_tests_are_skipped_and_fail_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setattr(browsing.shutil, "which", lambda program: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install chromium"):
        browsing.need_browser()
