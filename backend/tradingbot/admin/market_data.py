"""Market data to look at: stops and their release, conflicts and their decision, runs, quarantine, feeds and symbols.

Each symbol has a page of its own: its last tick, what stops it, what the checks said, its bars with the flagged ones.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from backend.tradingbot.admin.asking import ask
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import facts, label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.parsing import SYMBOL
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import BarConflict, BarFile, CheckRun, DataStop, Feed, Quarantine
from backend.tradingbot.selectors.market_pages import feed_page, symbol_page, with_stopped_symbols
from backend.tradingbot.services.bars import resolve_conflict
from backend.tradingbot.services.data_stops import release_symbol

RELEASE, DECIDE = "tradingbot.release_datastop", "tradingbot.decide_barconflict"


def symbol_link(symbol: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse("admin:tradingbot_feed_symbol", args=[symbol]), symbol)


@admin.register(DataStop)
class DataStopAdmin(EvidenceAdmin):
    list_display = ["badge", "link", "check_name", "source", "since", "released_at", "released_by"]
    list_display_links = ["badge"]
    list_filter = ["check_name", "source"]
    search_fields = ["symbol"]
    actions_detail = ["release"]
    groups = [
        (None, ["badge link", "check_name source", "meaning", "way_out", "since"]),
        ("What was seen", ["evidence"]),
        ("Release", ["released_at released_by", "reason"]),
        ("Made by", ["build_id trace_id"]),
    ]
    hidden = ["symbol"]

    @display(description="State", ordering="released_at")
    def badge(self, row: DataStop) -> SafeString:
        return label("stopped", "danger") if row.released_at is None else label("released", "success")

    @display(description="Symbol", ordering="symbol")
    def link(self, row: DataStop) -> SafeString:
        return symbol_link(row.symbol)

    @display(description="The check finds")
    def meaning(self, row: DataStop) -> str:
        described = CATALOGUE.get(row.check_name)
        return described.meaning if described else "-"

    @display(description="Released by")
    def way_out(self, row: DataStop) -> Any:
        described = CATALOGUE.get(row.check_name)
        return facts(list(described.released_by)) if described else "-"

    def has_release_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, RELEASE)

    @action(
        description="Release",
        permissions=["release"],
        url_path="release",
        icon="lock_open",
        variant=ActionVariant.DANGER,
    )
    def release(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = _row(self, request, DataStop, object_id)

        def perform(entered: dict[str, Any]) -> str:
            release_symbol(
                row.symbol, check=row.check_name, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK
            )
            return f"{row.symbol} is released from {row.check_name}."

        return ask(
            self,
            request,
            row,
            title=f"Release {row.symbol} from {row.check_name}",
            explanation="Orders in this symbol are let through again on its data as it is. What ticks had stopped "
            "begins anew with the next tick, whatever its price.",
            button=f"Release {row.symbol}",
            facts=[("Check", row.check_name), ("Since", row.since), ("What was seen", facts(row.evidence))],
            perform=perform,
        )


@admin.register(BarConflict)
class BarConflictAdmin(EvidenceAdmin):
    list_display = ["time", "symbol", "interval", "source", "seen_at", "resolution", "resolved_by"]
    list_filter = ["resolution", "interval"]
    search_fields = ["symbol"]
    actions_detail = ["keep_bar", "replace_bar"]
    groups = [
        (None, ["symbol interval", "time source", "seen_at"]),
        ("The bar that is there", ["stored"]),
        ("What came", ["offered"]),
        ("Decision", ["resolution resolved_at", "resolved_by", "reason"]),
        ("Made by", ["build_id trace_id"]),
    ]

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, DECIDE)

    @action(description="Keep the bar", permissions=["decide"], url_path="keep", icon="check")
    def keep_bar(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, "kept", "The bar that is there stays as it is.")

    @action(description="Replace the bar", permissions=["decide"], url_path="replace", icon="published_with_changes")
    def replace_bar(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(
            request, object_id, "replaced", "What came becomes the bar; the journal keeps the old values."
        )

    def _decide(self, request: HttpRequest, object_id: str, resolution: str, explanation: str) -> HttpResponse:
        row = _row(self, request, BarConflict, object_id)

        def perform(entered: dict[str, Any]) -> str:
            resolve_conflict(
                row.pk, resolution=resolution, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK
            )
            return f"The bar is {resolution}."

        return ask(
            self,
            request,
            row,
            title=f"{row.symbol} {row.interval} {row.time:%Y-%m-%d %H:%M}: {resolution}",
            explanation=explanation,
            button="Decide",
            facts=[("There", facts(row.stored)), ("Came", facts(row.offered))],
            perform=perform,
            danger=resolution == "replaced",
        )


@admin.register(CheckRun)
class CheckRunAdmin(EvidenceAdmin):
    list_display = ["started_at", "kind", "subject", "phase", "symbols", "rows", "outcome", "seconds"]
    list_filter = ["kind", "subject"]
    groups = [
        (None, ["started_at outcome", "kind subject", "session phase", "symbols rows", "seconds problem"]),
        ("Verdicts, at most the first 200", ["verdict_table"]),
        ("Made by", ["build_id"]),
    ]
    hidden = ["hard", "warned", "verdicts"]

    @display(description="Outcome")
    def outcome(self, row: CheckRun) -> SafeString:
        if row.problem:
            return label("failed", "danger")
        if row.hard:
            return label(f"{row.hard} hard", "danger")
        return label(f"{row.warned} warnings", "warning") if row.warned else label("clean", "success")

    @display(description="Verdicts")
    def verdict_table(self, row: CheckRun) -> Any:
        return verdict_rows(row.verdicts)


@admin.register(Quarantine)
class QuarantineAdmin(EvidenceAdmin):
    list_display = ["at", "kind", "name", "symbols", "rows"]
    list_filter = ["kind"]
    search_fields = ["name"]


@admin.register(BarFile)
class BarFileAdmin(EvidenceAdmin):
    list_display = ["name", "rows_done", "stored", "unchanged", "conflicts", "refused", "finished_at"]


@admin.register(Feed)
class FeedAdmin(EvidenceAdmin):
    list_display = ["code", "state", "session_calendar", "bars", "last_seen_at", "max_silence_seconds", "stopped"]
    list_filter = ["active", "second_source", "session_calendar"]
    search_fields = ["code"]

    def get_urls(self) -> list[Any]:
        page = path("symbol/<path:symbol>/", self.admin_site.admin_view(self.symbol), name="tradingbot_feed_symbol")
        return [page, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        """How many symbols of each are stopped comes with the rows, so that a long list asks no more often."""
        return with_stopped_symbols(super().get_queryset(request))

    @display(description="State", ordering="active")
    def state(self, row: Feed) -> SafeString:
        if not row.active:
            return label("off", "warning")
        return label("second source") if row.second_source else label("watched", "success")

    @display(description="Bars")
    def bars(self, row: Feed) -> str:
        return ", ".join(row.bar_intervals) or "-"

    @display(description="Stopped symbols")
    def stopped(self, row: Feed) -> Any:
        count: int = row.stopped_symbols  # type: ignore[attr-defined]
        return label(f"{count} of {len(row.symbols)}", "danger") if count else f"0 of {len(row.symbols)}"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The feed as it stands: nothing here is a form."""
        row = _row(self, request, Feed, object_id)
        page = feed_page(hot_state(), row, SYSTEM_CLOCK.now())
        return self._page(request, "admin/tradingbot/feed.html", row.code, page=page, **(extra_context or {}))

    def symbol(self, request: HttpRequest, symbol: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if not SYMBOL.fullmatch(symbol):
            raise Http404(f"{symbol} is not a symbol")
        page = symbol_page(hot_state(), symbol, SYSTEM_CLOCK.now(), request.GET.get("interval"))
        stops = [self._stop(request, stop) for stop in page["stops"]]
        return self._page(request, "admin/tradingbot/symbol.html", symbol, page=page, stops=stops)

    def _stop(self, request: HttpRequest, stop: DataStop) -> tuple[Any, ...]:
        """The address of a stop's page, the stop, what was seen in a line and whole, where and how it is released."""
        described = CATALOGUE.get(stop.check_name)
        may_release = stop.released_at is None and may(request, RELEASE)
        release = reverse("admin:tradingbot_datastop_release", args=[stop.pk]) if may_release else None
        address = reverse("admin:tradingbot_datastop_change", args=[stop.pk])
        evidence = facts(stop.evidence) if stop.evidence else ""
        return address, stop, _seen(stop), evidence, release, described.released_by if described else ()

    def _page(self, request: HttpRequest, template: str, title: str, **more: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.model._meta, "title": title, **more}
        return TemplateResponse(request, template, context)


def _seen(stop: DataStop) -> str:
    """``a bar that is not there: 1,173 rows, the first at 2025-12-30T14:30:00Z``."""
    described, at = CATALOGUE.get(stop.check_name), stop.evidence.get("at") or []
    rows = stop.evidence.get("rows")
    parts = [f"{rows:,} row{'' if rows == 1 else 's'}"] if isinstance(rows, int) else []
    parts += [f"the first at {at[0]}" if len(at) > 1 else f"at {at[0]}"] if at else []
    meaning = described.meaning if described else stop.check_name
    return f"{meaning}: {', '.join(parts)}" if parts else meaning


def _row(page: EvidenceAdmin, request: HttpRequest, model: Any, object_id: str) -> Any:
    if not page.has_view_permission(request):
        raise PermissionDenied
    row = model.objects.filter(pk=object_id).first() if object_id.isdigit() else None
    if row is None:
        raise Http404(f"there is no such row: {object_id}")
    return row


def verdict_rows(verdicts: list[dict[str, Any]]) -> Any:
    rows = (
        (
            label("stops", "danger") if v["severity"] == "H" else label("warns", "warning"),
            v["check"],
            v["symbol"],
            v["rows"],
            ", ".join(v["evidence"].get("at", [])[:3]) or "-",
        )
        for v in verdicts
    )
    return table(("", "Check", "Symbol", "Rows", "At"), rows)


def table(headers: tuple[str, ...], rows: Any) -> SafeString | str:
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((c,) for c in row)),) for row in rows)
    )
    if not body:
        return "-"
    head = format_html_join("", "<th>{}</th>", ((header,) for header in headers))
    return format_html('<table class="market"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body)
