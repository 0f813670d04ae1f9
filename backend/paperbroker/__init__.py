"""A stand-in broker: its own process, its own ledger, Alpaca's trading API v2. It shares no code with what it tests."""
