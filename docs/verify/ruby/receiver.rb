# Receives webhooks: verifies, deduplicates, answers. Ruby 3.0 or later, nothing to install.
#
# PORT=8080 WEBHOOK_SECRET=whsec_… ruby receiver.rb          (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)

require "openssl"
require "socket"
require "timeout"

TOLERANCE = 300 # seconds

# By webhook-signature, which covers the id, the time and the raw body.
def genuine?(secret, id, timestamp, signatures, body, now)
  return false unless timestamp.match?(/\A[0-9]{1,12}\z/) && (now - timestamp.to_i).abs <= TOLERANCE
  key = secret.delete_prefix("whsec_").unpack1("m")
  digest = OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body)
  expected = "v1," + [digest].pack("m0")
  signatures.split.any? { |given| OpenSSL.secure_compare(expected, given) }
end

# By X-Webhook-Signature, which covers the raw body alone.
def genuine_classic?(secret, signature, body)
  OpenSSL.secure_compare("sha256=" + OpenSSL::HMAC.hexdigest("SHA256", secret, body), signature)
end

# --- The receiver ---

SECRET = ENV.fetch("WEBHOOK_SECRET")
CLASSIC = ENV["WEBHOOK_SCHEME"] == "classic"
LARGEST = 1 << 20 # bytes
HANDLED = {} # in earnest: a table with a unique key, written in the transaction that does the work
LOCK = Mutex.new
$stdout.sync = true

# Ruby brings no HTTP server any more. In Rails: request.headers and request.raw_post; in Rack: env["rack.input"].read.
def read_request(socket)
  socket.gets("\r\n", 8192)
  headers = {}
  while (line = socket.gets("\r\n", 8192)) && line != "\r\n"
    name, value = line.b.split(":", 2)
    headers[name.downcase] ||= value.to_s.strip
  end
  length = headers["content-length"].to_s
  [headers, length.match?(/\A[0-9]{1,9}\z/) && length.to_i <= LARGEST ? socket.read(length.to_i) : nil]
end

def receive(headers, body)
  return [413, "Content-Length is missing or too large"] if body.nil?
  values = (CLASSIC ? %w[x-webhook-signature] : %w[webhook-id webhook-timestamp webhook-signature]).map { headers[_1].to_s }
  return [400, "a signature header is missing"] if values.any?(&:empty?)
  genuine = CLASSIC ? genuine_classic?(SECRET, *values, body) : genuine?(SECRET, *values, body, Time.now.to_f)
  return [401, "not genuine, or too old"] unless genuine
  key = CLASSIC ? OpenSSL::Digest.hexdigest("SHA256", body) : values.first
  LOCK.synchronize do
    puts "#{HANDLED.key?(key) ? "duplicate" : "handled"} #{key}" # parse the body here, not before
    HANDLED[key] = true
  end
  [204, ""]
end

server = TCPServer.new("127.0.0.1", Integer(ENV.fetch("PORT")))
loop do
  Thread.new(server.accept) do |socket|
    status, reason = receive(*Timeout.timeout(10) { read_request(socket) })
    length = status == 204 ? "" : "Content-Length: #{reason.bytesize}\r\n"
    socket.write("HTTP/1.1 #{status} -\r\n#{length}Connection: close\r\n\r\n#{reason}")
  rescue SystemCallError, IOError, Timeout::Error => gone
    warn "request abandoned: #{gone.class}"
  ensure
    socket.close
  end
end
