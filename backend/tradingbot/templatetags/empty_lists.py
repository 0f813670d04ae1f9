"""What an empty list says of itself: where its rows come from, so that a new installation explains itself."""

from __future__ import annotations

from django import template
from django.db.models.options import Options

register = template.Library()

FIRST = "An account first: the overview tells how to make one."
COMES_FROM = {
    "account": 'Make one here, or by make manage CMD="account create main --from-broker --symbols AAPL,MSFT".',
    "apikey": "Make one here; its secret is shown once. A strategy needs a key of the role trader.",
    "strategy": "Make one here; it begins in shadow, where its orders are simulated.",
    "strategybuild": "The first order of a strategy, or POST strategies/{code}/builds, registers its build.",
    "order": "Every order that is decided stands here, refused ones as well: POST orders, as the overview shows.",
    "execution": "What the broker executed stands here, as soon as an order fills.",
    "position": "Positions come from executions only.",
    "breaker": FIRST + " It brings a breaker; so do each strategy and the firm.",
    "breakerevent": "Trips and resets stand here for good.",
    "tradingstate": FIRST,
    "limitversion": FIRST + " It brings the limits of its profile.",
    "riskrow": FIRST,
    "accountexposure": FIRST,
    "feed": 'Declare one by make manage CMD="feed declare ...", as the overview shows.',
    "datastop": "No symbol is stopped by a check of its data.",
    "break": "Nothing differs, or no day was reconciled yet: see the days closed.",
    "reconrun": "A day is reconciled by itself after its session, or started here by hand.",
    "statement": "The broker's statement is kept with each run; a file is uploaded here or by POST recon/statements.",
    "notification": "Trips, stops, orders in doubt and critical breaks are told here, and by the channels set.",
    "killswitchrun": "The kill switch was never pulled. It stands at the top of every page for those who may.",
    "permit": "A permit lets one specific order through: the risk role gives it by POST permits.",
    "disabledpattern": "No pattern of orders repeated too often.",
    "journalentry": "The first account writes the first entry.",
    "strategyheartbeat": "A strategy registers its heartbeat by POST strategies/{code}/heartbeat.",
}


@register.filter
def comes_from(options: Options) -> str:
    return COMES_FROM.get(str(options.model_name), "What happens stands here by itself; nothing of it has happened.")
