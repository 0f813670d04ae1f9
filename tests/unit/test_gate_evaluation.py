"""The circuit breaker's gate when no breaker is open: is it known that none should be?"""

from decimal import Decimal

import pytest

from tests.unit.gate_samples import answer, figures, order, sell

GATE = "circuit_breaker"


@pytest.mark.parametrize("whose", ["evaluated_age", "firm_evaluated_age"])
@pytest.mark.parametrize(
    ("age", "code"),
    [
        (Decimal(0), "closed"),
        (Decimal(15), "closed"),
        (Decimal("15.000001"), "breaker_unevaluated"),
        (Decimal(-15), "closed"),
        (Decimal(-16), "breaker_unevaluated"),
        (None, "breaker_unevaluated"),
    ],
)
def test_a_breaker_is_believed_for_three_intervals_and_not_from_the_future(whose, age, code):
    check = answer(GATE, order(), **{whose: age})
    assert (check.passed, check.code) == (code == "closed", code)


@pytest.mark.parametrize(("whose", "named"), [("evaluated_age", "account"), ("firm_evaluated_age", "firm")])
def test_the_denial_names_the_breaker_its_age_and_the_limit(whose, named):
    age = {whose: Decimal("20.5")}
    assert figures(GATE, order(), **age) == (False, "breaker_unevaluated", "20.5", "15", None)
    message = answer(GATE, order(), **age).message
    assert message == f"the {named}'s breaker was last evaluated: 20.5 s ago; the limit is 15 s"


def test_the_accounts_own_unknown_equity_is_told_before_the_firms_unevaluated_breaker():
    check = answer(GATE, order(), equity_known=False, firm_evaluated_age=None)
    assert check.code == "equity_unknown"


@pytest.mark.parametrize("unknown", [{"evaluated_age": None}, {"firm_evaluated_age": None}, {"equity_known": False}])
def test_what_only_reduces_passes_although_nothing_is_known(unknown):
    check = answer(GATE, sell("5"), position=Decimal(5), **unknown)
    assert (check.passed, check.code) == (True, "reduces_risk")
    assert answer(GATE, sell("6"), position=Decimal(5), **unknown).passed is False
