// Receives webhooks: verifies, deduplicates, answers. Java 17 or later, nothing to install.
//
// PORT=8080 WEBHOOK_SECRET=whsec_… java Receiver.java          (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import static java.nio.charset.StandardCharsets.UTF_8;

public class Receiver {
    static final long TOLERANCE = 300; // seconds

    static byte[] hmac(byte[] key, byte[]... parts) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        for (byte[] part : parts) mac.update(part);
        return mac.doFinal();
    }

    static boolean same(String left, String right) { // in constant time
        return MessageDigest.isEqual(left.getBytes(UTF_8), right.getBytes(UTF_8));
    }

    /** By webhook-signature, which covers the id, the time and the raw body. */
    static boolean isGenuine(String secret, String id, String timestamp, String signatures, byte[] body, long now)
            throws GeneralSecurityException {
        if (!timestamp.matches("[0-9]{1,12}") || Math.abs(now - Long.parseLong(timestamp)) > TOLERANCE) return false;
        byte[] key = Base64.getDecoder().decode(secret.substring("whsec_".length()));
        byte[] digest = hmac(key, (id + "." + timestamp + ".").getBytes(UTF_8), body);
        String expected = "v1," + Base64.getEncoder().encodeToString(digest);
        return Arrays.stream(signatures.split(" ")).anyMatch(given -> same(expected, given));
    }

    /** By X-Webhook-Signature, which covers the raw body alone. */
    static boolean isGenuineClassic(String secret, String signature, byte[] body) throws GeneralSecurityException {
        return same("sha256=" + HexFormat.of().formatHex(hmac(secret.getBytes(UTF_8), body)), signature);
    }

    // --- The receiver ---

    static final String SECRET = Objects.requireNonNull(System.getenv("WEBHOOK_SECRET"), "WEBHOOK_SECRET is not set");
    static final boolean CLASSIC = "classic".equals(System.getenv("WEBHOOK_SCHEME"));
    static final int LARGEST = 1 << 20; // bytes
    // In earnest: a table with a unique key, written in the transaction that does the work.
    static final Set<String> HANDLED = ConcurrentHashMap.newKeySet();

    static int receive(HttpExchange exchange) throws IOException, GeneralSecurityException {
        byte[] body = exchange.getRequestBody().readNBytes(LARGEST + 1);
        if (body.length > LARGEST) return 413;
        List<String> values = new ArrayList<>();
        for (String name : CLASSIC ? new String[] {"X-Webhook-Signature"}
                                   : new String[] {"webhook-id", "webhook-timestamp", "webhook-signature"}) {
            String value = exchange.getRequestHeaders().getFirst(name);
            if (value == null || value.isEmpty()) return 400;
            values.add(value);
        }
        boolean genuine = CLASSIC ? isGenuineClassic(SECRET, values.get(0), body)
            : isGenuine(SECRET, values.get(0), values.get(1), values.get(2), body, System.currentTimeMillis() / 1000);
        if (!genuine) return 401;
        byte[] sha256 = MessageDigest.getInstance("SHA-256").digest(body);
        String key = CLASSIC ? HexFormat.of().formatHex(sha256) : values.get(0);
        System.out.println((HANDLED.add(key) ? "handled " : "duplicate ") + key); // parse the body here, not before
        return 204;
    }

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(System.getenv("PORT"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            try (exchange) {
                exchange.sendResponseHeaders(receive(exchange), -1);
            } catch (GeneralSecurityException impossible) { // every Java has HmacSHA256 and SHA-256
                throw new IllegalStateException(impossible);
            }
        });
        server.start();
    }
}
