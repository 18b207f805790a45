#!/bin/bash
# Makes an authority and a certificate for Elasticsearch in /certs, unless they are there.
set -euo pipefail
if [[ -f /certs/elasticsearch/elasticsearch.key ]]; then
  exit 0
fi
work=$(mktemp -d)
bin/elasticsearch-certutil ca --silent --pem --out "$work/ca.zip"
unzip -q "$work/ca.zip" -d "$work"
bin/elasticsearch-certutil cert --silent --pem --name elasticsearch --dns elasticsearch --dns localhost \
  --ip 127.0.0.1 --ca-cert "$work/ca/ca.crt" --ca-key "$work/ca/ca.key" --out "$work/certs.zip"
unzip -q "$work/certs.zip" -d "$work"
# The authority's key is needed never again and stays out of the volume.
mkdir -p /certs/ca
install -m 644 "$work/ca/ca.crt" /certs/ca/ca.crt
# The server reads its key as uid 1000, group 0. The key comes last: it says that the rest is whole.
mkdir -p /certs/elasticsearch
install -m 644 "$work/elasticsearch/elasticsearch.crt" /certs/elasticsearch/elasticsearch.crt
install -m 640 -o 1000 -g 0 "$work/elasticsearch/elasticsearch.key" /certs/elasticsearch/elasticsearch.key
rm -rf "$work"
