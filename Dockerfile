# The image of web, worker and migration; docker-compose.prod.yml says which command each of them runs.
FROM python:3.13.14-slim-bookworm AS packages
COPY requirements/runtime.txt /
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /runtime.txt

FROM python:3.13.14-slim-bookworm
RUN groupadd --gid 10001 rollcall \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /srv/rollcall --shell /usr/sbin/nologin rollcall
COPY --from=packages /venv /venv
WORKDIR /srv/rollcall
COPY config.py config_values.py wsgi.py gunicorn.conf.py ./
COPY app app
COPY migrations migrations
COPY static static
COPY templates templates
COPY deploy/healthcheck.py deploy/healthcheck.py
# The root file system is read-only when this runs, so what Python compiles is compiled here.
RUN /venv/bin/python -m compileall -q .
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    FLASK_APP=wsgi.py \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "wsgi:app"]
