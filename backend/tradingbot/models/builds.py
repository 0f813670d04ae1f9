"""What a build stamp stands for: code, dependencies and configuration, as a process said at its start."""

from django.db import models

from backend.tradingbot.models.append_only import append_only


class BuildStamp(models.Model):
    """One build with one lock file and one configuration. Append-only; the stamp is the digest of the rest.

    ``settings`` are the settings that are no secrets: what ``config_hash`` is the hash of, readable.
    """

    stamp = models.CharField(max_length=16, primary_key=True)
    build_id = models.CharField(max_length=64)
    build_timestamp = models.CharField(max_length=32)
    dirty = models.BooleanField(help_text="Made from files that no commit has.")
    lock_hash = models.CharField(max_length=64, help_text="SHA-256 of requirements.lock.")
    config_hash = models.CharField(max_length=64, help_text="SHA-256 of the settings below.")
    settings = models.JSONField(default=dict)
    python_version = models.CharField(max_length=32)
    platform = models.CharField(max_length=160)
    first_seen_at = models.DateTimeField()

    class Meta:
        ordering = ["-first_seen_at"]
        triggers = append_only("build_stamp")

    def __str__(self) -> str:
        return f"{self.build_id} ({self.stamp})"
