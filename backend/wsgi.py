"""The WSGI entry point that gunicorn loads. Loading it fails, and gunicorn ends, when it would not be safe to serve."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

application = get_wsgi_application()

from backend.tradingbot.start import refuse_unsafe_start  # noqa: E402  needs Django to be set up

refuse_unsafe_start()
