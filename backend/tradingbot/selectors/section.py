"""One part of the state as Prometheus is told it: what it asks the database, and the gauges that the answers make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from backend.tradingbot.selectors.snapshot import Question, Rows, ask, moment


@dataclass(frozen=True)
class Section:
    """``tell`` is called with the time and, under the name of its question, the rows of each answer."""

    name: str
    questions: Mapping[str, Question]
    tell: Callable[..., Iterator[Metric]]

    def __call__(self, now: datetime) -> list[Metric]:
        """The families of this section alone."""
        return list(self.tell(now, **ask(self.questions)))


def section(**questions: Question) -> Callable[[Callable[..., Iterator[Metric]]], Section]:
    """Make a function that tells of the answers to ``questions`` a section of its name."""
    return lambda tell: Section(tell.__name__, questions, tell)


def gauge(name: str, text: str, labels: list[str], rows: Iterable[tuple[list[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"tradingbot_{name}", text, labels=labels)
    for values, figure in rows:
        family.add_metric(values, figure)
    return family


def age(now: datetime, then: str) -> float:
    """Seconds since a moment of an answer."""
    return (now - moment(then)).total_seconds()


def only(rows: Rows, name: str) -> str | None:
    """The value of the one row that may be there."""
    return rows[0][name] if rows else None
