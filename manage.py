#!/usr/bin/env python3
"""Django's command line, on this project's settings."""

import os
import sys


def main() -> None:
    if sys.argv[1:2] == ["check_data"]:  # a file needs no database, and a pipeline has no settings
        from backend.tradingbot.data.check_command import main as check_data

        sys.exit(check_data(sys.argv[2:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
