"""Django's settings, all derived from the one frozen :class:`~backend.settings.config.Config`."""

import os
from pathlib import Path

from celery.schedules import crontab
from csp.constants import NONE, SELF, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from kombu import Queue
from pydantic import ValidationError
from pydantic_settings import SettingsError

from backend.settings.admin_pages import UNFOLD as UNFOLD
from backend.settings.config import Config
from backend.tradingbot.infra.build_info import declare_config
from backend.tradingbot.infra.logging import logging_config

# What the processes of one machine count meets in this directory, which must be there before the first of them counts.
if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(parents=True, exist_ok=True)

BASE_DIR = Path(__file__).resolve().parent.parent.parent

try:
    TRADINGBOT = Config()  # type: ignore[call-arg]
except SettingsError as error:
    raise ImproperlyConfigured(f"The environment is not usable: {error}") from None
except ValidationError as error:
    problems = "; ".join(f"{'.'.join(map(str, e['loc'])).upper() or 'settings'}: {e['msg']}" for e in error.errors())
    raise ImproperlyConfigured(f"The environment is not usable: {problems}") from None

declare_config(TRADINGBOT.public())
PRODUCTION = TRADINGBOT.environment == "production"
DEBUG = False
SECRET_KEY = TRADINGBOT.secret_key.get_secret_value()
ALLOWED_HOSTS = [host.strip() for host in TRADINGBOT.allowed_hosts.split(",") if host.strip()]
ROOT_URLCONF = "backend.urls"
LOGIN_URL = LOGIN_REDIRECT_URL = "admin:index"
WSGI_APPLICATION = "backend.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pgtrigger",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "django_prometheus",
    "backend.tradingbot",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "backend.tradingbot.api.middleware.TraceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "backend.tradingbot.admin.headers.SecurityHeaders",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "backend.tradingbot.admin.second_factor.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "backend/tradingbot/templates"],  # before the theme's, which some of ours replace
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 1
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
# A name from an address: whoever guesses from elsewhere locks nobody out of the place from which trading is stopped.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "backend.tradingbot.admin.locked_out.address_of"
AXES_LOCKOUT_CALLABLE = "backend.tradingbot.admin.locked_out.locked_out"
AXES_HTTP_RESPONSE_CODE = 429
OTP_TOTP_ISSUER = "Tradingbot"

DATABASES = {"default": TRADINGBOT.database}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
FORMAT_MODULE_PATH = ["backend.settings.formats"]

STATIC_URL = "/static/"
STATIC_ROOT = TRADINGBOT.state_dir / "static"
WHITENOISE_USE_FINDERS = True

if PRODUCTION:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    # Asked from inside: the health checks, and Prometheus with its key.
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Lax and not Strict: the link in a notification is to lead to its page, and not to the door.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = round(TRADINGBOT.session_hours * 3600)
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Each exception stands in docs/security.md with its reason.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["backend.tradingbot.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["backend.tradingbot.api.parsing.ExactJSONParser"],
    "EXCEPTION_HANDLER": "backend.tradingbot.api.errors.problem_response",
    "DEFAULT_SCHEMA_CLASS": "backend.tradingbot.api.schema.NamedCalls",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tradingbot",
    "DESCRIPTION": "The safety layer between trading strategies and a broker.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "backend.tradingbot.api.schema.add_refusals",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

CELERY_BROKER_URL = TRADINGBOT.redis_url.get_secret_value()
CELERY_WORKER_POOL, CELERY_WORKER_CONCURRENCY = "threads", TRADINGBOT.worker_threads
# Telling people waits behind no other work: a broker that hangs holds up every thread of the worker, and just then
# there is news. The worker takes the queue `celery`, the notifier this one; a worker without -Q takes both.
NOTIFICATIONS = "notifications"
CELERY_TASK_QUEUES = [Queue("celery"), Queue(NOTIFICATIONS)]
CELERY_TASK_ROUTES = {
    f"tradingbot.{name}": {"queue": NOTIFICATIONS} for name in ("send_notification", "sweep_notifications", "hand_over")
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "poll-broker": {
        "task": "tradingbot.poll_broker",
        "schedule": TRADINGBOT.poll_seconds,
        "options": {"expires": max(TRADINGBOT.poll_seconds, 2)},
    },
    "recover-orders": {
        "task": "tradingbot.recover_orders",
        "schedule": TRADINGBOT.recovery_seconds,
        "options": {"expires": max(TRADINGBOT.recovery_seconds, 2)},
    },
    "revalue-accounts": {
        "task": "tradingbot.revalue_accounts",
        "schedule": TRADINGBOT.revalue_seconds,
        "options": {"expires": max(TRADINGBOT.revalue_seconds, 2)},
    },
    "watch-modes": {
        "task": "tradingbot.watch_modes",
        "schedule": TRADINGBOT.modes_seconds,
        "options": {"expires": max(TRADINGBOT.modes_seconds, 2)},
    },
    "anchor-journal": {
        "task": "tradingbot.anchor_journal",
        "schedule": TRADINGBOT.anchor_seconds,
        "options": {"expires": max(TRADINGBOT.anchor_seconds, 2)},
    },
    "verify-journal": {
        "task": "tradingbot.verify_journal",
        "schedule": TRADINGBOT.journal_verify_seconds,
        "options": {"expires": max(TRADINGBOT.journal_verify_seconds, 2)},
    },
    "kill-switch": {
        "task": "tradingbot.kill_switch",
        "schedule": TRADINGBOT.kill_switch_seconds,
        "options": {"expires": max(TRADINGBOT.kill_switch_seconds, 2)},
    },
    "watch-heartbeats": {
        "task": "tradingbot.watch_heartbeats",
        "schedule": 1.0,
        "options": {"expires": 2},
    },
    "flush-key-use": {
        "task": "tradingbot.flush_key_use",
        "schedule": 15.0,
        "options": {"expires": 15},
    },
    "sweep-notifications": {
        "task": "tradingbot.sweep_notifications",
        "schedule": TRADINGBOT.notify_seconds,
        "options": {"expires": max(TRADINGBOT.notify_seconds, 2)},
    },
    "check-market-data": {
        "task": "tradingbot.check_market_data",
        "schedule": crontab(),
        "options": {"expires": 60},
    },
    "check-bar-cache": {
        "task": "tradingbot.check_bar_cache",
        "schedule": crontab(minute=0, hour=11),
        "options": {"expires": 3600},
    },
    "mark-accounts": {
        "task": "tradingbot.mark_accounts",
        "schedule": TRADINGBOT.mark_seconds,
        "options": {"expires": max(TRADINGBOT.mark_seconds, 2)},
    },
    "close-days": {
        "task": "tradingbot.close_days",
        "schedule": TRADINGBOT.recon_retry_seconds,
        "options": {"expires": max(TRADINGBOT.recon_retry_seconds, 2)},
    },
    "compare-intraday": {
        "task": "tradingbot.compare_intraday",
        "schedule": TRADINGBOT.recon_intraday_seconds,
        "options": {"expires": max(TRADINGBOT.recon_intraday_seconds, 2)},
    },
    "read-cash-flows": {
        "task": "tradingbot.read_cash_flows",
        "schedule": TRADINGBOT.cash_flow_seconds,
        "options": {"expires": TRADINGBOT.cash_flow_seconds},
    },
}

# Mail goes out by Django, and nowhere unless MAIL_URL names a server.
DEFAULT_FROM_EMAIL = TRADINGBOT.mail_from
MAIL = TRADINGBOT.mail_server
EMAIL_BACKEND = (
    "django.core.mail.backends.smtp.EmailBackend" if MAIL else "django.core.mail.backends.dummy.EmailBackend"
)
if MAIL:
    EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD, EMAIL_USE_TLS = MAIL
EMAIL_TIMEOUT = 5

LOGGING = logging_config(log_format=TRADINGBOT.log_format, level=TRADINGBOT.log_level, secrets=TRADINGBOT.secrets)
LOGGING_CONFIG = "logging.config.dictConfig"

PROMETHEUS_EXPORT_MIGRATIONS = False
PROMETHEUS_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
