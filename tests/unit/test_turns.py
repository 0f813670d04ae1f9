"""Each of many has its turn: what fails keeps nobody waiting, and is not lost."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.services.turns import Turns


def test_when_nothing_fails_nothing_is_raised() -> None:
    with Turns() as turns, turns.each("turn_failed"):
        pass
    assert turns.failed is None


@pytest.mark.parametrize("first", [KeyError("first"), ConflictError("first", code="taken")])
def test_everybody_has_his_turn_and_the_first_error_is_raised_at_the_end(first: Exception) -> None:
    had: list[int] = []
    with pytest.raises(type(first)) as raised, Turns() as turns:
        for number, error in enumerate((None, first, ValueError("second"), None)):
            with turns.each("turn_failed", number=number):
                had.append(number)
                if error is not None:
                    raise error
    assert had == [0, 1, 2, 3]
    assert raised.value is first


def test_a_database_that_is_gone_ends_the_pass_where_it_stands() -> None:
    had: list[int] = []
    with pytest.raises(OperationalError), Turns() as turns:
        for number in range(3):
            with turns.each("turn_failed"):
                had.append(number)
                raise OperationalError("gone")
    assert had == [0]


def test_an_error_between_the_turns_is_not_hidden_by_an_earlier_one() -> None:
    with pytest.raises(ZeroDivisionError), Turns() as turns:
        with turns.each("turn_failed"):
            raise KeyError("first")
        raise ZeroDivisionError
