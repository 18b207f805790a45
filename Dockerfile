# The platform's image: the locked packages, the code, and no root.
FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 10001 shop && mkdir -p /shop /dagster && chown shop /shop /dagster
WORKDIR /app

COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE dagster.yaml workspace.yaml ./
COPY sql ./sql
COPY shop_platform ./shop_platform
RUN pip install --no-cache-dir --no-deps .

USER shop
WORKDIR /shop
VOLUME ["/shop"]
