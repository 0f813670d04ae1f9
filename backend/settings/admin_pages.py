"""The admin's name and its side bar. A page that no group names is still on the start page."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _page(title: str, icon: str, model: str, app: str = "tradingbot", view: str = "changelist") -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_{view}"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
    }


def _keeps_history(request: HttpRequest) -> bool:
    """Django's own history knows users and groups; what the bot keeps has its history in the journal."""
    return request.resolver_match is not None and (request.resolver_match.url_name or "").startswith("auth_")


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Tradingbot",
    "SITE_HEADER": "Tradingbot",
    "SITE_SUBHEADER": "all times are UTC",
    "SITE_SYMBOL": "shield",
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": _keeps_history,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("tradingbot/favicon.svg")}
    ],
    "STYLES": [
        lambda request: static("tradingbot/admin.css"),
        lambda request: static("tradingbot/control_room.css"),
        lambda request: static("tradingbot/modes.css"),
    ],
    "DASHBOARD_CALLBACK": "backend.tradingbot.admin.overview.index_context",
    "ACCOUNT": {
        "navigation": [{"title": "Second factor", "link": reverse_lazy("second_factor_set_up")}],
    },
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": True,
        "navigation": [
            {
                "title": "Control room",
                "items": [
                    {"title": "Overview", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                    _page("Kill switch runs", "front_hand", "killswitchrun"),
                ],
            },
            {
                "title": "Trading",
                "items": [
                    _page("Orders", "receipt_long", "order"),
                    _page("Executions", "done_all", "execution"),
                    _page("Positions", "account_balance_wallet", "position"),
                ],
            },
            {
                "title": "Risk",
                "items": [
                    _page("Breakers", "electric_bolt", "breaker"),
                    _page("Breaker events", "history", "breakerevent"),
                    _page("Trading states", "traffic", "tradingstate"),
                    _page("Heartbeats", "ecg_heart", "strategyheartbeat"),
                    _page("Limits", "speed", "limitversion"),
                    _page("Permits", "approval", "permit"),
                    _page("Exposure by account", "donut_large", "accountexposure"),
                    _page("Exposure by name", "donut_small", "nameexposure"),
                    _page("Cash and equity", "savings", "riskrow"),
                ],
            },
            {
                "title": "Books",
                "items": [
                    _page("Days closed", "event_available", "reconrun"),
                    _page("Breaks", "difference", "break"),
                    _page("Blocks", "front_hand", "reconciliationblock"),
                    _page("Affirmations", "draw", "affirmation"),
                    _page("Statements", "description", "statement"),
                    _page("CSV mappings", "table_view", "csvmappingversion"),
                    _page("Rules of closing", "rule_settings", "reconpolicy"),
                    _page("Cash flows", "payments", "cashflow"),
                    _page("Book entries", "post_add", "bookentry"),
                    _page("Attestations", "verified_user", "attestation"),
                ],
            },
            {
                "title": "Market data",
                "items": [
                    _page("Feeds and symbols", "sensors", "feed"),
                    _page("Stopped symbols", "front_hand", "datastop"),
                    _page("Check runs", "rule", "checkrun"),
                    _page("Bar conflicts", "compare_arrows", "barconflict"),
                    _page("Quarantine", "inventory_2", "quarantine"),
                    _page("Corporate actions", "call_split", "corporateaction"),
                    _page("Bar files", "upload_file", "barfile"),
                ],
            },
            {
                "title": "Evidence",
                "items": [
                    _page("Notifications", "notifications", "notification"),
                    _page("Journal", "menu_book", "journalentry"),
                    _page("Search the journal", "search", "journalentry", view="search_entries"),
                    _page("Builds", "deployed_code", "buildstamp"),
                    _page("Anchors", "anchor", "journalanchor"),
                    _page("Proofs of the journal", "verified", "journalverdict"),
                ],
            },
            {
                "title": "Set-up",
                "items": [
                    _page("Accounts", "account_balance", "account"),
                    _page("Strategies", "psychology", "strategy"),
                    _page("Builds and modes", "rocket_launch", "strategybuild"),
                    _page("What promotions ask", "checklist", "promotionbar"),
                    _page("API keys", "key", "apikey"),
                ],
            },
            {
                "title": "People",
                "items": [
                    _page("Users", "person", "user", "auth"),
                    _page("Groups", "group", "group", "auth"),
                    _page("Failed sign-ins", "lock", "accessattempt", "axes"),
                ],
            },
        ],
    },
}
