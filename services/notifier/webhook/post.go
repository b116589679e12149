package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	tryTime        = 15 * time.Second // for one try, from the name's resolution to the answer's end
	connectTime    = 10 * time.Second
	idleTime       = 90 * time.Second
	answerBytesMax = 64 << 10
	headerBytesMax = 64 << 10
)

// newClient returns a client that goes where the address check lets it, and nowhere else.
func newClient(allowPrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: connectTime}
	if !allowPrivate {
		dialer.Control = refusePrivate
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // not the environment's either
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    connectTime,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    2, // a note, and a letter that is sent again
			IdleConnTimeout:        idleTime,
			MaxResponseHeaderBytes: headerBytesMax,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// poster sends events to one endpoint.
type poster struct {
	client   *http.Client
	endpoint Endpoint
	secrets  []Secret
	agent    string
	time     time.Duration // for one try
}

// post makes one try.
func (p *poster) post(ctx context.Context, id string, body []byte) Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.time)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint.url, bytes.NewReader(body))
	if err != nil {
		return Outcome{Err: withoutURL(err)}
	}
	now := time.Now()
	r.Header.Set("Content-Type", ContentType)
	r.Header.Set("User-Agent", p.agent)
	r.Header.Set(HeaderID, id)
	r.Header.Set(HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(HeaderSignature, Signature(p.secrets, id, now, body))
	answer, err := p.client.Do(r)
	if err != nil {
		return Outcome{Err: withoutURL(err)}
	}
	defer func() { _ = answer.Body.Close() }() // it was read as far as it is wanted
	// The status has decided. What is read lets the connection be used again.
	_, _ = io.CopyN(io.Discard, answer.Body, answerBytesMax)
	return Outcome{Status: answer.StatusCode, RetryAfter: retryAfter(answer.Header.Get("Retry-After"), now)}
}

// withoutURL takes the URL out of an error, because it may hold a secret.
func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// retryAfter reads the header of that name: seconds, or a date. What makes no sense, or
// lies in the past, is nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
