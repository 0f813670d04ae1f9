"""The broker's words for cash that moves by itself, and which of it is neither won nor lost.

Source: Alpaca's account activity types. Funding moves the start of the day with it; everything else (fees, dividends,
interest) is gain or loss of the day on which it is posted.
"""

FUNDING = ("CSD", "CSW", "JNLC", "ACATC")
FEES = ("FEE", "CFEE", "PTC")
DIVIDENDS = ("DIV", "DIVCGL", "DIVCGS", "DIVFEE", "DIVFT", "DIVNRA", "DIVROC", "DIVTW", "DIVTXEX")
INTEREST = ("INT", "INTNRA", "INTTW")
OTHER = ("JNL", "MISC", "REORG")
CASH_KINDS = FUNDING + FEES + DIVIDENDS + INTEREST + OTHER


def is_funding(kind: str) -> bool:
    """True for deposits, withdrawals and transfers of cash."""
    return kind in FUNDING
