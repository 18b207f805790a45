#!/bin/bash
# Makes an authority and certificates for Elasticsearch and PostgreSQL in /certs, unless they are there.
set -euo pipefail
if [[ -f /certs/postgres/postgres.key ]]; then
  exit 0
fi
work=$(mktemp -d)
bin/elasticsearch-certutil ca --silent --pem --out "$work/ca.zip"
unzip -q "$work/ca.zip" -d "$work"
cat > "$work/instances.yml" <<'YAML'
instances:
  - name: elasticsearch
    dns: [elasticsearch, localhost]
    ip: ["127.0.0.1"]
  - name: postgres
    dns: [postgres]
YAML
bin/elasticsearch-certutil cert --silent --pem --in "$work/instances.yml" \
  --ca-cert "$work/ca/ca.crt" --ca-key "$work/ca/ca.key" --out "$work/certs.zip"
unzip -q "$work/certs.zip" -d "$work"
# The authority's key is needed never again and stays out of the volume.
mkdir -p /certs/ca
install -m 644 "$work/ca/ca.crt" /certs/ca/ca.crt
# Elasticsearch reads its key as uid 1000, group 0.
mkdir -p /certs/elasticsearch
install -m 644 "$work/elasticsearch/elasticsearch.crt" /certs/elasticsearch/elasticsearch.crt
install -m 640 -o 1000 -g 0 "$work/elasticsearch/elasticsearch.key" /certs/elasticsearch/elasticsearch.key
# PostgreSQL runs as uid and gid 999. Its key comes last: it says that the rest is whole.
mkdir -p /certs/postgres
install -m 644 "$work/postgres/postgres.crt" /certs/postgres/postgres.crt
install -m 600 -o 999 -g 999 "$work/postgres/postgres.key" /certs/postgres/postgres.key
rm -rf "$work"
