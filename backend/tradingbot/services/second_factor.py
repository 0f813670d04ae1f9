"""The second factor: a time-based code (RFC 6238) beside the password, and ten codes for the day the phone is lost.

Invariants: a device counts only after one right code was given; its secret and the backup codes are shown once, to its
owner; a code works once; guesses are slowed down by the device itself; setting it and taking it away is in the journal.
"""

from __future__ import annotations

import segno
from django.contrib.auth.models import User
from django.db import transaction
from django_otp import match_token
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldError, InvalidInputError
from backend.tradingbot.services import people

BACKUP_CODES = 10
PHONE, BACKUP = "phone", "backup codes"


def has_one(user: User) -> bool:
    """Whether ``user`` has a device that counts."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def begin(user: User) -> TOTPDevice:
    """The device that ``user`` is about to set up; the same until it is confirmed. ConflictError when one counts."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if has_one(user):
            remedy = "ask an administrator to take the old one away first"
            raise ConflictError("a second factor is set up already", code="second_factor_set", remedy=remedy)
        return TOTPDevice.objects.get_or_create(user=user, confirmed=False, defaults={"name": PHONE})[0]


def picture_of(device: TOTPDevice) -> str:
    """The QR code of its address, as SVG without style."""
    return str(segno.make(device.config_url, error="m").svg_inline(scale=5, border=4, light="#fff", dark="#000"))


def confirm(user: User, code: str, *, clock: Clock) -> tuple[TOTPDevice, list[str]]:
    """The device counts from now on; it and the backup codes. Raises InvalidInputError for a wrong code."""
    device = begin(user)
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().get(pk=device.pk)
        right = not device.confirmed and device.verify_token(_digits(code))
        if right:
            device.confirmed = True
            device.save()
            codes = _fresh_codes(user)
            people.append("second_factor_set", user.username, {}, actor=f"admin:{user.username}"[:120], clock=clock)
    if not right:
        problem, remedy = (
            "is not the code that the phone shows now",
            "wait for the next one; see that its clock is right",
        )
        raise InvalidInputError([FieldError("code", code, problem, remedy)])
    return device, codes


def _fresh_codes(user: User) -> list[str]:
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name=BACKUP, confirmed=True)
    codes = [StaticToken.random_token() for _ in range(BACKUP_CODES)]
    StaticToken.objects.bulk_create([StaticToken(device=device, token=code) for code in codes])
    return codes


def match(user: User, code: str) -> Device | None:
    """The device whose code this is, used up now; None for a wrong one, or while guesses are slowed down."""
    return match_token(user, _digits(code))


def _digits(code: str) -> str:
    return "".join(code.split()).lower()


def take_away(user: User, *, actor: str, reason: str, clock: Clock) -> bool:
    """Every device of ``user`` is gone; False when there was none. The next sign-in needs the password only, or a new
    set-up where the second factor is required."""
    with transaction.atomic():
        gone = sum(model.objects.filter(user=user).delete()[0] for model in (TOTPDevice, StaticDevice))
        if gone:
            people.append("second_factor_taken", user.username, {"reason": reason}, actor=actor, clock=clock)
    return bool(gone)
