package webhook

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/events"
)

func TestParseEndpoint(t *testing.T) {
	for raw, private := range map[string]bool{
		"https://hooks.example.com/T0/secret?x=1": false, "https://8.8.8.8:8443/": false, "https://[2606:4700::1111]/": false,
		"http://hooks.example.com/": true, "https://10.0.0.1/": true, "http://localhost:8000/": true, "https://[::1]/": true,
	} {
		e, err := ParseEndpoint(raw, true)
		if err != nil || len(e.Name) != nameDigits || strings.Contains(fmt.Sprintf("%v", e), "secret") {
			t.Errorf("%s: %v, %v", raw, e, err)
		}
		if _, err := ParseEndpoint(raw, false); (err != nil) != private {
			t.Errorf("%s without private addresses: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"", "hooks.example.com", "//hooks.example.com", "ftp://hooks.example.com", "https://", "https:hooks", "https://:443/",
		"https://hooks.example.com:99999/secret", "https://hooks.example.com:0/",
		"https://secret:secret@hooks.example.com/", "https://hooks.example.com/#secret", "https://hooks.example.com/%zzsecret", "https://a b/secret",
	} {
		if e, err := ParseEndpoint(raw, true); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", raw, e, err)
		}
	}
}

func TestParseSecrets(t *testing.T) {
	secret := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for text, want := range map[string]int{
		secret(24): 1, secret(64) + "\n": 1, secret(32) + "\r\n\n" + secret(33) + "\n": 2,
		"": 0, "\n": 0, secret(23): 0, secret(65): 0, "whsec_": 0, "whsec_!!!!": 0, secret(32) + "\nrest": 0,
		strings.TrimPrefix(secret(32), "whsec_"): 0, strings.Repeat(secret(32)+"\n", 5): 0,
	} {
		all, err := ParseSecrets([]byte(text))
		if len(all) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d secrets, %v", text, len(all), err)
		}
	}
	shown, _ := ParseSecrets([]byte(secret(24)))
	if text := fmt.Sprintf("%v %+v %#v %s", shown, shown, shown, shown[0]); strings.Contains(text, "AAAA") || strings.Contains(text, "0x0") {
		t.Errorf("a secret prints: %s", text)
	}
}

// TestSignature is the example that the libraries of Standard Webhooks test themselves by.
func TestSignature(t *testing.T) {
	secrets, err := ParseSecrets([]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		t.Fatal(err)
	}
	at, body := time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := Signature(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := Signature(append(secrets, Secret{make([]byte, 24)}), "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body); !strings.HasPrefix(got, want+" v1,") {
		t.Errorf("with two secrets: %s", got)
	}
}

func TestEncode(t *testing.T) {
	at := events.InstantOf(time.Date(2026, 11, 20, 8, 0, 0, 5, time.UTC))
	for name, c := range map[string]struct {
		turn events.LifecycleNoted
		want map[string]any
	}{
		"of a directory": {
			events.LifecycleNoted{Directory: "a1", Pool: "vms", Path: "/prod/db", Node: "n1", What: events.Promoted, Detail: "forced", At: at},
			map[string]any{"type": "tidemark.directory.promoted", "subject": "vms/prod/db"},
		},
		"of an instance": {
			events.LifecycleNoted{Node: "n1", With: "journal", What: events.InstanceLost, At: at},
			map[string]any{"type": "tidemark.instance.lost", "subject": "n1/journal"},
		},
	} {
		body, err := Encode("0123abcd", "east", 17, c.turn)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{
			"specversion": "1.0", "id": "LIFECYCLE-17", "source": "/tidemark/sites/0123abcd", "tidemarksite": "east",
			"datacontenttype": "application/json", "time": "2026-11-20T08:00:00.000000005Z", "type": c.want["type"], "subject": c.want["subject"],
		} {
			if got[key] != want {
				t.Errorf("%s: %s is %v, want %v", name, key, got[key], want)
			}
		}
		if data, ok := got["data"].(map[string]any); !ok || data["what"] != string(c.turn.What) || data["node"] != "n1" {
			t.Errorf("%s: data %v", name, got["data"])
		}
	}
}
