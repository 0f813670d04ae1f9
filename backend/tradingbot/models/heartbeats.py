"""Signs of life of the processes that no request reaches: when each was last at work, and how it goes."""

from django.db import models


class Heartbeat(models.Model):
    """``name`` is the process's, ``state`` a word of its own, ``at`` the last sign of life, ``since`` when the state
    began."""

    name = models.CharField(max_length=32, primary_key=True)
    state = models.CharField(max_length=16)
    detail = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"
