# One image for the web server, the worker, beat and the stream. No secret is in it: they come as files at run time.
# The root file system may be read-only: only /tmp and /var/lib/tradingbot are written to.
FROM python:3.12.12-slim-trixie AS build
WORKDIR /app
RUN python -m venv /opt/venv
# `docker build --build-arg OTEL=1 .` adds the optional extra that exports traces (docs/logs-and-traces.md).
ARG OTEL=""
COPY requirements-run.lock requirements-otel.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-run.lock \
    ${OTEL:+-r requirements-otel.lock}

FROM python:3.12.12-slim-trixie
# The commit that is built: `docker build --build-arg GIT_SHA=$(git rev-parse HEAD) .`; every order and log line bears it.
ARG GIT_SHA=""
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    STATE_DIR=/var/lib/tradingbot \
    WSB_GIT_SHA=${GIT_SHA}
# What the distribution has mended since the base image was made. GIT_SHA stands above, so that every commit looks anew.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes --no-install-recommends \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home tradingbot \
    && install -d -o tradingbot -g tradingbot /var/lib/tradingbot /var/lib/tradingbot/static
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY manage.py requirements.lock ./
COPY backend ./backend
USER tradingbot
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=3); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["gunicorn", "-c", "python:backend.web_server", "backend.wsgi:application", "--bind", "0.0.0.0:8000"]
