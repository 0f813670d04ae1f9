"""Accounts that were there before get the limits of the default profile, and an exposure that is unknown until it was
first computed: new risk waits for that, orders that only reduce do not."""

from datetime import UTC, datetime

from django.db import migrations

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
MEASURES = 48
FIRST = {
    "order_qty_max": "10000",
    "order_notional_max": "250000",
    "price_collar_buy_bps": "500",
    "price_collar_sell_bps": "500",
    "price_collar_away_bps": "5000",
    "position_long_max": "20000",
    "gross_exposure_max": "1000000",
    "net_exposure_max": "1000000",
    "concentration_max_bps": "5000",
    "order_rate_key_per_min": "600",
    "order_rate_strategy_per_min": "600",
    "order_rate_account_per_min": "1200",
    "reducing_rate_account_per_min": "1200",
    "duplicate_orders_max": "10",
    "duplicate_window_seconds": "5",
    "repeat_orders_max": "200",
    "repeat_window_seconds": "300",
    "portfolio_delta_max": "1000000",
    "portfolio_gamma_max": "10000",
    "portfolio_theta_loss_max": "1000",
    "portfolio_vega_max": "50000",
    "portfolio_beta_exposure_max": "2000000",
    "name_delta_max": "100000",
    "name_gamma_max": "1000",
    "name_theta_loss_max": "100",
    "name_vega_max": "5000",
    "name_beta_exposure_max": "200000",
    "greeks_max_age_seconds": "900",
}


def give_limits(apps, schema_editor):
    models = {name: apps.get_model("tradingbot", name) for name in ("Account", "Position", "AccountExposure")}
    versions = apps.get_model("tradingbot", "LimitVersion")
    now = datetime.now(UTC)
    for account in models["Account"].objects.all():
        held = models["Position"].objects.filter(account=account).exclude(qty=0).count()
        zeros = [0] * MEASURES
        models["AccountExposure"].objects.create(
            account=account, low=zeros, high=zeros, unknown=held, unstressed=held, updated_at=now
        )
        for kind, value in FIRST.items():
            versions.objects.create(
                scope=f"account:{account.code}",
                kind=kind,
                version=1,
                value=value,
                effective_from=BEGINNING,
                state="in_force",
                loosens=True,
                set_by="migration",
                reason="profile default",
                set_at=now,
                build_id="migration",
            )


class Migration(migrations.Migration):
    dependencies = [("tradingbot", "0007_limits_and_exposure")]
    operations = [migrations.RunPython(give_limits, migrations.RunPython.noop)]
