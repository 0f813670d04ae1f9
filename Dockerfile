# One image for the web server, the worker and beat. No secret is in it: everything comes from the environment.
FROM python:3.12-slim AS build
WORKDIR /app
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

FROM python:3.12-slim
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    STATE_DIR=/var/lib/tradingbot
RUN useradd --system --uid 10001 --no-create-home tradingbot \
    && install -d -o tradingbot -g tradingbot /var/lib/tradingbot
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY manage.py ./
COPY backend ./backend
USER tradingbot
EXPOSE 8000
CMD ["gunicorn", "backend.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", \
     "--workers", "2", "--threads", "4", "--keep-alive", "75", "--timeout", "60", "--no-control-socket"]
