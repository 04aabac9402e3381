#!/usr/bin/env bash
# Sends one signed event, to try a receiver: openssl signs it, curl sends it. Prints the status it was answered.
#
# WEBHOOK_SECRET=whsec_… ./send.sh http://127.0.0.1:8080/hooks [body.json]
#
# The secret is seen by whoever lists the processes of this machine meanwhile: for secrets of tests.
set -euo pipefail
: "${WEBHOOK_SECRET:?}"
url=$1 id=${WEBHOOK_ID:-test_$(openssl rand -hex 8)} timestamp=$(date +%s)
body=$(mktemp)
trap 'rm -f "$body"' EXIT
if [ -n "${2-}" ]; then cat "$2"; else printf '{"event":"callback.created","idempotency_key":"%s"}' "$id"; fi >"$body"

hex() { od -An -v -tx1 | tr -d ' \n'; }
hmac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary; }
key=$(printf %s "${WEBHOOK_SECRET#whsec_}" | openssl base64 -d -A | hex)
standard=$({ printf %s "$id.$timestamp." && cat "$body"; } | hmac "$key" | openssl base64 -A)
classic=$(hmac "$(printf %s "$WEBHOOK_SECRET" | hex)" <"$body" | hex)

curl --silent --show-error --output /dev/null --write-out '%{http_code}\n' --max-time 10 \
    --header 'Content-Type: application/json' --header 'X-Webhook-Event: callback.created' \
    --header "X-Webhook-Idempotency-Key: $id" --header 'X-Webhook-Delivery-Attempt: 1' \
    --header "X-Webhook-Signature: sha256=$classic" --header "webhook-id: $id" \
    --header "webhook-timestamp: $timestamp" --header "webhook-signature: v1,$standard" --data-binary "@$body" "$url"
