<?php
// Receives webhooks: verifies, deduplicates, answers. PHP 7.4 or later, nothing to install.
//
// SEEN_DIR=/var/lib/hooks WEBHOOK_SECRET=whsec_… php -S 127.0.0.1:$PORT receiver.php   (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)

declare(strict_types=1);

const TOLERANCE = 300; // seconds

/** By webhook-signature, which covers the id, the time and the raw body. */
function is_genuine(string $secret, string $id, string $timestamp, string $signatures, string $body, int $now): bool
{
    if (!preg_match('/^[0-9]{1,12}$/D', $timestamp) || abs($now - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $key = base64_decode(substr($secret, strlen('whsec_')));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $signatures) as $given) {
        if (hash_equals($expected, $given)) {
            return true;
        }
    }
    return false;
}

/** By X-Webhook-Signature, which covers the raw body alone. */
function is_genuine_classic(string $secret, string $signature, string $body): bool
{
    return hash_equals('sha256=' . hash_hmac('sha256', $body, $secret), $signature);
}

// --- The receiver ---

const LARGEST = 1 << 20; // bytes

/** The status and the reason. */
function receive(string $secret, bool $classic, string $body): array
{
    $names = $classic ? ['X_WEBHOOK_SIGNATURE'] : ['WEBHOOK_ID', 'WEBHOOK_TIMESTAMP', 'WEBHOOK_SIGNATURE'];
    $values = array_map(fn ($name) => $_SERVER["HTTP_$name"] ?? '', $names);
    if (in_array('', $values, true)) {
        return [400, 'a signature header is missing'];
    }
    if (!($classic ? is_genuine_classic($secret, $values[0], $body) : is_genuine($secret, ...[...$values, $body, time()]))) {
        return [401, 'not genuine, or too old'];
    }
    $key = $classic ? hash('sha256', $body) : $values[0];
    // In earnest: a table with a unique key, written in the transaction that does the work.
    $mark = getenv('SEEN_DIR') . '/' . hash('sha256', $key);
    if (@fopen($mark, 'x')) {
        error_log("handled $key"); // parse the body here, not before
    } elseif (file_exists($mark)) {
        error_log("duplicate $key");
    } else {
        return [500, 'cannot write to SEEN_DIR'];
    }
    return [204, ''];
}

$body = (string) file_get_contents('php://input', false, null, 0, LARGEST + 1);
$secret = (string) getenv('WEBHOOK_SECRET');
if ($secret === '') {
    [$status, $reason] = [500, 'WEBHOOK_SECRET is not set'];
} elseif (strlen($body) > LARGEST) {
    [$status, $reason] = [413, 'too large'];
} else {
    [$status, $reason] = receive($secret, getenv('WEBHOOK_SCHEME') === 'classic', $body);
}
http_response_code($status);
echo $reason;
