"""The four roles as groups. What each may is in services/roles.py, which fills them after every migrate."""

from django.db import migrations

ROLES = ["viewer", "trader", "risk", "admin"]


def make(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    for role in ROLES:
        Group.objects.get_or_create(name=role)


def unmake(apps, schema_editor):
    """Groups that people are in stay: taking them away would forget who was what."""
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES, user__isnull=True).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("tradingbot", "0025_breaker_history"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(make, unmake)]
