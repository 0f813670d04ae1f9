"""Fills, for those who only want them read or booked: the polling leg, and the door of every execution."""

from backend.tradingbot.services.booking import UnknownOrderError, book_execution
from backend.tradingbot.services.polling import poll_account

__all__ = ["UnknownOrderError", "book_execution", "poll_account"]
