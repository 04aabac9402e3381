// Receives webhooks: verifies, deduplicates, answers. .NET 10 or later, or Mono 6; nothing to install. With an earlier
// .NET, put it into a project of its own.
//
// PORT=8080 WEBHOOK_SECRET=whsec_… dotnet run Receiver.cs          (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)

using System;
using System.Collections.Concurrent;
using System.IO;
using System.Linq;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;

public static class Receiver
{
    const long Tolerance = 300; // seconds

    static byte[] Hmac(byte[] key, byte[] signed)
    {
        using (var hmac = new HMACSHA256(key)) return hmac.ComputeHash(signed);
    }

    static bool Same(string left, string right) // in constant time
    {
        return CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(left), Encoding.UTF8.GetBytes(right));
    }

    /// By webhook-signature, which covers the id, the time and the raw body.
    static bool IsGenuine(string secret, string id, string timestamp, string signatures, byte[] body, long now)
    {
        if (!Regex.IsMatch(timestamp, @"\A[0-9]{1,12}\z") || Math.Abs(now - long.Parse(timestamp)) > Tolerance)
            return false;
        byte[] key = Convert.FromBase64String(secret.Substring("whsec_".Length));
        byte[] signed = Encoding.UTF8.GetBytes(id + "." + timestamp + ".").Concat(body).ToArray();
        string expected = "v1," + Convert.ToBase64String(Hmac(key, signed));
        return signatures.Split(' ').Any(given => Same(expected, given));
    }

    /// By X-Webhook-Signature, which covers the raw body alone.
    static bool IsGenuineClassic(string secret, string signature, byte[] body)
    {
        return Same("sha256=" + Hex(Hmac(Encoding.UTF8.GetBytes(secret), body)), signature);
    }

    static string Hex(byte[] bytes) { return BitConverter.ToString(bytes).Replace("-", "").ToLowerInvariant(); }

    // --- The receiver ---

    static byte[] Sha256(byte[] body) { using (var sha256 = SHA256.Create()) return sha256.ComputeHash(body); }

    static readonly string Secret = Environment.GetEnvironmentVariable("WEBHOOK_SECRET");
    static readonly bool Classic = Environment.GetEnvironmentVariable("WEBHOOK_SCHEME") == "classic";
    const int Largest = 1 << 20; // bytes
    // In earnest: a table with a unique key, written in the transaction that does the work.
    static readonly ConcurrentDictionary<string, bool> Handled = new ConcurrentDictionary<string, bool>();

    static int Receive(HttpListenerRequest request)
    {
        if (request.ContentLength64 < 0 || request.ContentLength64 > Largest) return 413;
        var copy = new MemoryStream();
        request.InputStream.CopyTo(copy);
        byte[] body = copy.ToArray();
        var names = Classic ? new[] { "X-Webhook-Signature" } : new[] { "webhook-id", "webhook-timestamp", "webhook-signature" };
        var values = names.Select(name => request.Headers[name]).ToArray();
        if (values.Any(string.IsNullOrEmpty)) return 400;
        long now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        bool genuine = Classic ? IsGenuineClassic(Secret, values[0], body)
            : IsGenuine(Secret, values[0], values[1], values[2], body, now);
        if (!genuine) return 401;
        string key = Classic ? Hex(Sha256(body)) : values[0];
        Console.WriteLine((Handled.TryAdd(key, true) ? "handled " : "duplicate ") + key); // parse the body here, not before
        return 204;
    }

    public static void Main()
    {
        if (string.IsNullOrEmpty(Secret)) throw new InvalidOperationException("WEBHOOK_SECRET is not set");
        var listener = new HttpListener();
        listener.Prefixes.Add("http://127.0.0.1:" + Environment.GetEnvironmentVariable("PORT") + "/");
        listener.Start();
        while (true)
        {
            var context = listener.GetContext();
            ThreadPool.QueueUserWorkItem(_ =>
            {
                try { context.Response.StatusCode = Receive(context.Request); context.Response.Close(); }
                catch (Exception gone) when (gone is IOException || gone is HttpListenerException) { context.Response.Abort(); }
            });
        }
    }
}
