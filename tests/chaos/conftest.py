"""One house for every test here that breaks real processes; each test leaves it healthy, and it goes with the last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.house import House
from tests.chaos.runner import prepare
from tests.integration.paper_process import start  # noqa: F401  a fixture


@pytest.fixture(scope="package")
def running_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"), settings={"QUIET_WINDOW_SECONDS": "8"})
    try:
        house.start()
        prepare(house)
        yield house
    finally:
        house.close()


@pytest.fixture
def house(running_house: House) -> Iterator[House]:
    """The running house, ready before the test; what the test left stopped or armed is undone after it."""
    running_house.wait_until(running_house.ready, 60.0, "the house was not ready")
    yield running_house
    running_house.points.disarm_all()
    running_house.continue_all()
    running_house.broker("DELETE", "/control/faults")
