// Receives webhooks: verifies, deduplicates, answers. Go 1.19 or later, nothing to install.
//
// PORT=8080 WEBHOOK_SECRET=whsec_… go run receiver.go          (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const tolerance = 300 // seconds

func sign(key, signed []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(signed)
	return mac.Sum(nil)
}

// isGenuine judges by webhook-signature, which covers the id, the time and the raw body.
func isGenuine(secret, id, timestamp, signatures string, body []byte, now int64) bool {
	seconds, err := strconv.ParseUint(timestamp, 10, 40)
	if err != nil || now-int64(seconds) > tolerance || int64(seconds)-now > tolerance {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	digest := sign(key, append([]byte(id+"."+timestamp+"."), body...))
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(digest))
	for _, given := range strings.Fields(signatures) {
		if hmac.Equal(expected, []byte(given)) {
			return true
		}
	}
	return false
}

// isGenuineClassic judges by X-Webhook-Signature, which covers the raw body alone.
func isGenuineClassic(secret, signature string, body []byte) bool {
	return hmac.Equal([]byte("sha256="+hex.EncodeToString(sign([]byte(secret), body))), []byte(signature))
}

// --- The receiver ---

const largest = 1 << 20 // bytes

var (
	secret  = os.Getenv("WEBHOOK_SECRET")
	classic = os.Getenv("WEBHOOK_SCHEME") == "classic"
	handled sync.Map // in earnest: a table with a unique key, written in the transaction that does the work
)

func receive(writer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, largest))
	if err != nil {
		http.Error(writer, "cannot be read, or too large", http.StatusRequestEntityTooLarge)
		return
	}
	header := request.Header.Get
	id, timestamp, signatures := header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")
	genuine := isGenuine(secret, id, timestamp, signatures, body, time.Now().Unix())
	complete, key := id != "" && timestamp != "" && signatures != "", id
	if classic {
		genuine = isGenuineClassic(secret, header("X-Webhook-Signature"), body)
		complete, key = header("X-Webhook-Signature") != "", fmt.Sprintf("%x", sha256.Sum256(body))
	}
	if !complete {
		http.Error(writer, "a signature header is missing", http.StatusBadRequest)
	} else if !genuine {
		http.Error(writer, "not genuine, or too old", http.StatusUnauthorized)
	} else {
		if _, again := handled.LoadOrStore(key, true); again {
			fmt.Println("duplicate", key)
		} else {
			fmt.Println("handled", key) // parse the body here, not before
		}
		writer.WriteHeader(http.StatusNoContent)
	}
}

func main() {
	if secret == "" {
		log.Fatal("WEBHOOK_SECRET is not set")
	}
	address := "127.0.0.1:" + os.Getenv("PORT")
	server := http.Server{Addr: address, Handler: http.HandlerFunc(receive), ReadTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
