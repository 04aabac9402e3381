// Receives webhooks: verifies, deduplicates, answers. Node 18 or later, nothing to install.
//
// PORT=8080 WEBHOOK_SECRET=whsec_… node receiver.js          (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)

"use strict";
const crypto = require("node:crypto");
const http = require("node:http");

const TOLERANCE = 300; // seconds

// In constant time. timingSafeEqual throws when lengths in bytes differ, and a forger chooses the length.
function same(left, right) {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

// By webhook-signature, which covers the id, the time and the raw body (a Buffer).
function isGenuine(secret, id, timestamp, signatures, body, now) {
  if (!/^[0-9]{1,12}$/.test(timestamp) || Math.abs(now - Number(timestamp)) > TOLERANCE) return false;
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const digest = crypto.createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  return signatures.split(" ").some((given) => same(`v1,${digest}`, given));
}

// By X-Webhook-Signature, which covers the raw body alone.
function isGenuineClassic(secret, signature, body) {
  return same("sha256=" + crypto.createHmac("sha256", secret).update(body).digest("hex"), signature);
}

// --- The receiver ---

const secret = process.env.WEBHOOK_SECRET;
const classic = process.env.WEBHOOK_SCHEME === "classic";
const LARGEST = 1 << 20; // bytes
const handled = new Set(); // in earnest: a table with a unique key, written in the transaction that does the work

function receive(headers, body) {
  const names = classic ? ["x-webhook-signature"] : ["webhook-id", "webhook-timestamp", "webhook-signature"];
  const values = names.map((name) => headers[name]);
  if (!values.every(Boolean)) return [400, "a signature header is missing"];
  const genuine = classic
    ? isGenuineClassic(secret, ...values, body)
    : isGenuine(secret, ...values, body, Date.now() / 1000);
  if (!genuine) return [401, "not genuine, or too old"];
  const key = classic ? crypto.createHash("sha256").update(body).digest("hex") : values[0];
  console.log(handled.has(key) ? "duplicate" : "handled", key); // parse the body here, not before
  handled.add(key);
  return [204, ""];
}

const server = http.createServer((request, response) => {
  const chunks = [];
  let size = 0;
  const answer = (status, reason) => response.writeHead(status).end(reason);
  request.on("data", (chunk) => {
    size += chunk.length;
    if (size <= LARGEST) chunks.push(chunk);
  });
  request.on("end", () => answer(...(size <= LARGEST ? receive(request.headers, Buffer.concat(chunks)) : [413, "too large"])));
});
server.requestTimeout = 10_000;
if (!secret) throw new Error("WEBHOOK_SECRET is not set");
server.listen(Number(process.env.PORT), "127.0.0.1");
