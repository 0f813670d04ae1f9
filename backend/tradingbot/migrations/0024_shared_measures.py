"""Headroom above the account for net exposure and Greeks.

What is held already counts as not known until the next revaluation has told it, so that no limit above the account is
held against less than all there is.
"""

import django.contrib.postgres.fields
from django.db import migrations, models

import backend.tradingbot.models.exposure

NOT_KNOWN_YET = """
UPDATE tradingbot_strategyexposure SET known = false WHERE gross <> 0 OR position <> 0;
UPDATE tradingbot_sharedheadroom AS shared SET unknown = (
  SELECT count(*) FROM tradingbot_strategyexposure AS part
  JOIN tradingbot_strategy AS strategy ON strategy.id = part.strategy_id
  WHERE NOT part.known AND shared.scope IN ('firm', 'strategy:' || strategy.code, 'symbol:' || part.symbol,
    'strategy:' || strategy.code || '/symbol:' || part.symbol));
"""


def measures() -> django.contrib.postgres.fields.ArrayField:
    return django.contrib.postgres.fields.ArrayField(
        models.DecimalField(decimal_places=9, max_digits=38), default=backend.tradingbot.models.exposure.nothing_shared
    )


class Migration(migrations.Migration):
    dependencies = [("tradingbot", "0023_recon_permissions")]

    operations = [
        migrations.RemoveConstraint("sharedheadroom", "shared_headroom_not_negative"),
        migrations.AddField("sharedheadroom", "low", measures()),
        migrations.AddField("sharedheadroom", "high", measures()),
        migrations.AddField(
            "sharedheadroom", "unknown", models.IntegerField(default=0, help_text="Parts whose risk is not known.")
        ),
        migrations.AddField("strategyexposure", "low", measures()),
        migrations.AddField("strategyexposure", "high", measures()),
        migrations.AddField("strategyexposure", "known", models.BooleanField(default=True)),
        migrations.AlterField(
            "sharedheadroom",
            "reserved",
            models.DecimalField(decimal_places=9, default=0, help_text="Gross value.", max_digits=38),
        ),
        migrations.AddConstraint(
            "sharedheadroom",
            models.CheckConstraint(
                condition=models.Q(("reserved__gte", 0), ("unknown__gte", 0)), name="shared_headroom_not_negative"
            ),
        ),
        migrations.RunSQL(NOT_KNOWN_YET, migrations.RunSQL.noop),
    ]
