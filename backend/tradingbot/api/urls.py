"""The API's URLs."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny

from backend.tradingbot.api import (
    attestations,
    controls,
    kill_switch,
    limits,
    market_data,
    metrics,
    operations,
    orders,
    recon,
    schema,  # noqa: F401  importing it registers the keys with the schema
    strategies,
    trading_states,
)

OPEN = {"authentication_classes": [], "permission_classes": [AllowAny]}

urlpatterns = [
    path("api/v1/orders", orders.Orders.as_view(), name="orders"),
    path("api/v1/orders/check", orders.OrderCheck.as_view(), name="order-check"),
    path("api/v1/orders/cancel-all", orders.CancelAll.as_view(), name="order-cancel-all"),
    re_path(r"^api/v1/orders/(?P<client_order_id>[A-Za-z0-9._-]{1,48})$", orders.OneOrder.as_view(), name="order"),
    re_path(
        r"^api/v1/orders/(?P<client_order_id>[A-Za-z0-9._-]{1,48})/attest$",
        attestations.AttestOrder.as_view(),
        name="order-attest",
    ),
    path("api/v1/breakers", operations.Breakers.as_view(), name="breakers"),
    path("api/v1/breakers/<str:scope>/trip", operations.TripBreaker.as_view(), name="breaker-trip"),
    path("api/v1/breakers/<str:scope>/reset", operations.ResetBreaker.as_view(), name="breaker-reset"),
    path("api/v1/kill-switch", kill_switch.KillSwitch.as_view(), name="kill-switch"),
    path("api/v1/kill-switch/<str:run>", kill_switch.OneKillSwitchRun.as_view(), name="kill-switch-run"),
    path("api/v1/kill-switch/<str:run>/stop", kill_switch.StopKillSwitch.as_view(), name="kill-switch-stop"),
    path("api/v1/trading-state", trading_states.TradingStates.as_view(), name="trading-state"),
    path("api/v1/market-data/ticks", market_data.Ticks.as_view(), name="ticks"),
    path("api/v1/market-data/bars", market_data.Bars.as_view(), name="bars"),
    path("api/v1/data-quality", market_data.DataQuality.as_view(), name="data-quality"),
    path("api/v1/data-quality/<path:symbol>/release", market_data.ReleaseData.as_view(), name="data-release"),
    path("api/v1/strategies", strategies.Strategies.as_view(), name="strategies"),
    path("api/v1/strategies/<str:code>/builds", strategies.Builds.as_view(), name="strategy-builds"),
    path("api/v1/strategies/<str:code>/withdraw", strategies.WithdrawBuild.as_view(), name="strategy-withdraw"),
    path("api/v1/strategies/<str:code>/promote", strategies.Promote.as_view(), name="strategy-promote"),
    path("api/v1/strategies/<str:code>/decide", strategies.DecidePromotion.as_view(), name="strategy-decide"),
    path("api/v1/strategies/<str:code>/demote", strategies.Demote.as_view(), name="strategy-demote"),
    path("api/v1/strategies/<str:code>/divergence", strategies.DivergenceReport.as_view(), name="divergence"),
    path("api/v1/limits", limits.Limits.as_view(), name="limits"),
    path("api/v1/limits/history", limits.LimitHistory.as_view(), name="limit-history"),
    path("api/v1/limits/differences", limits.LimitDifferences.as_view(), name="limit-differences"),
    path("api/v1/limits/replay", limits.LimitReplay.as_view(), name="limit-replay"),
    path("api/v1/limits/<int:version_id>/approve", limits.DecideLimit.as_view(), name="limit-approve"),
    path("api/v1/limits/<int:version_id>/refuse", limits.DecideLimit.as_view(approve=False), name="limit-refuse"),
    path("api/v1/permits", controls.Permits.as_view(), name="permits"),
    path("api/v1/disabled-patterns", controls.DisabledPatterns.as_view(), name="disabled-patterns"),
    path("api/v1/disabled-patterns/<int:pattern_id>/enable", controls.EnablePattern.as_view(), name="pattern-enable"),
    path("api/v1/accounts/<slug:code>/greeks", controls.Greeks.as_view(), name="account-greeks"),
    path("api/v1/accounts/<slug:code>/exposure", controls.Exposure.as_view(), name="account-exposure"),
    path("api/v1/recon/runs", recon.Runs.as_view(), name="recon-runs"),
    path("api/v1/recon/runs/<int:run>", recon.OneRun.as_view(), name="recon-run"),
    path("api/v1/recon/runs/<int:run>/report", recon.RunReport.as_view(), name="recon-report"),
    path("api/v1/recon/breaks", recon.Breaks.as_view(), name="recon-breaks"),
    re_path(
        r"^api/v1/recon/breaks/(?P<number>\d{1,18})/(?P<step>assign|note|explain|write-off|resolve|close|send-back|reopen)$",
        recon.BreakStep.as_view(),
        name="recon-break-step",
    ),
    path("api/v1/recon/statements", recon.Statements.as_view(), name="recon-statements"),
    path("api/v1/recon/mappings", recon.Mappings.as_view(), name="recon-mappings"),
    path("api/v1/recon/policies", recon.Policies.as_view(), name="recon-policies"),
    path("api/v1/recon/blocks", recon.Blocks.as_view(), name="recon-blocks"),
    re_path(
        r"^api/v1/recon/blocks/(?P<number>\d{1,18})/(?P<step>waive|lift)$",
        recon.BlockStep.as_view(),
        name="recon-block-step",
    ),
    path("api/v1/recon/affirmations", recon.Affirmations.as_view(), name="recon-affirmations"),
    path("api/v1/recon/affirmations/<int:number>/sign", recon.SignAffirmation.as_view(), name="recon-sign"),
    path("api/v1/build", operations.Build.as_view(), name="build"),
    path("api/schema/", SpectacularAPIView.as_view(**OPEN), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema", **OPEN), name="docs"),
    path("metrics", metrics.Metrics.as_view(), name="metrics"),
    path("healthz", operations.healthz),
    path("readyz", operations.readyz),
]
