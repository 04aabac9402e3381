#!/usr/bin/env bash
# Receives webhooks: verifies, deduplicates, answers. bash 4 and openssl; socat or systemd-socket-activate listens.
#
# PORT=8080 SEEN_DIR=/var/lib/hooks WEBHOOK_SECRET=whsec_… ./receiver.sh     (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)

set -fuo pipefail # f: what a header holds is never taken for a pattern of file names
export LC_ALL=C
tolerance=300 # seconds

to_hex() { od -An -v -tx1 | tr -d ' \n'; }
from_hex() { printf %b "$(sed 's/../\\x&/g')"; }
sha256() { openssl dgst -sha256 -binary; }

# HMAC-SHA256 of stdin, in binary; the key in hex (RFC 2104). By hand, so that the key is never among the arguments of
# a process, which everyone on the machine can read: `openssl dgst -mac HMAC -macopt hexkey:…` puts it there.
hmac() {
    local key=$1 inner='' outer='' i byte
    ((${#key} <= 128)) || key=$(from_hex <<<"$key" | sha256 | to_hex)
    for ((i = 0; i < 128; i += 2)); do
        byte=${key:i:2}
        printf -v inner '%s\\x%02x' "$inner" $((16#${byte:-0} ^ 0x36))
        printf -v outer '%s\\x%02x' "$outer" $((16#${byte:-0} ^ 0x5c))
    done
    { printf %b "$inner" && cat; } | sha256 | { printf %b "$outer" && cat; } | sha256
}

# In effect constant time: what is compared byte by byte are HMACs with a key that nobody knows.
same() {
    local key
    key=$(openssl rand -hex 32)
    [ "$(printf %s "$1" | hmac "$key" | to_hex)" = "$(printf %s "$2" | hmac "$key" | to_hex)" ]
}

# By webhook-signature, which covers the id, the time and the raw body (a file).
is_genuine() { # secret id timestamp signatures body now
    local key expected given
    [[ $3 =~ ^[0-9]{1,12}$ ]] && ((10#$3 - $6 <= tolerance && $6 - 10#$3 <= tolerance)) || return 1
    key=$(printf %s "${1#whsec_}" | openssl base64 -d -A | to_hex)
    expected=v1,$({ printf %s "$2.$3." && cat "$5"; } | hmac "$key" | openssl base64 -A)
    for given in $4; do
        if same "$expected" "$given"; then return 0; fi
    done
    return 1
}

# By X-Webhook-Signature, which covers the raw body alone.
is_genuine_classic() { # secret signature body
    same "sha256=$(hmac "$(printf %s "$1" | to_hex)" <"$3" | to_hex)" "$2"
}

# --- The receiver ---

largest=$((1 << 20)) # bytes
: "${PORT:?}" "${WEBHOOK_SECRET:?}" "${SEEN_DIR:?a directory of its own, for the keys that were handled}"

answer() { printf 'HTTP/1.1 %s\r\nConnection: close\r\n\r\n' "$1"; }

receive() { # a request on stdin, the answer on stdout
    local line value length='' id='' timestamp='' standard='' classic='' key
    body=$(mktemp) && trap 'rm -f "$body"' EXIT
    while IFS= read -r -t 10 line && line=${line%$'\r'} && [ -n "$line" ]; do
        value=${line#*:} && value=${value# }
        case ${line,,} in
            content-length:*) length=$value ;;
            webhook-id:*) id=$value ;;
            webhook-timestamp:*) timestamp=$value ;;
            webhook-signature:*) standard=$value ;;
            x-webhook-signature:*) classic=$value ;;
        esac
    done
    [[ $length =~ ^[0-9]{1,9}$ ]] && ((10#$length <= largest)) || { answer '413 Missing or too large Content-Length' && return; }
    timeout 10 head -c "$length" >"$body"
    if [ "${WEBHOOK_SCHEME-}" = classic ]; then
        [ -n "$classic" ] || { answer '400 A signature header is missing' && return; }
        is_genuine_classic "$WEBHOOK_SECRET" "$classic" "$body" || { answer '401 Not genuine' && return; }
        id=$(sha256 <"$body" | to_hex)
    else
        [[ -n $id && -n $timestamp && -n $standard ]] || { answer '400 A signature header is missing' && return; }
        is_genuine "$WEBHOOK_SECRET" "$id" "$timestamp" "$standard" "$body" "$(date +%s)" ||
            { answer '401 Not genuine, or too old' && return; }
    fi
    key=$(printf %s "$id" | sha256 | to_hex)
    # In earnest: a table with a unique key, written in the transaction that does the work.
    if mkdir "$SEEN_DIR/$key" 2>/dev/null; then
        echo "handled $id" >&2
    elif [ -d "$SEEN_DIR/$key" ]; then
        echo "duplicate $id" >&2
    else
        answer '500 Cannot write to SEEN_DIR' && return
    fi
    answer '204 No Content'
}

if [ "${1-}" = receive ]; then
    receive
elif command -v socat >/dev/null; then
    exec socat "TCP-LISTEN:$PORT,bind=127.0.0.1,reuseaddr,fork" EXEC:"bash '$(realpath "$0")' receive"
else
    exec systemd-socket-activate -l "127.0.0.1:$PORT" --accept --inetd -E PORT -E SEEN_DIR -E WEBHOOK_SECRET \
        -E WEBHOOK_SCHEME bash "$(realpath "$0")" receive
fi
