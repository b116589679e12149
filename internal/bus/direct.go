package bus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/keys"
)

const (
	// directGap is how soon an append must follow another to be worth such a connection.
	directGap = 100 * time.Millisecond
	// directIdle is how long one is kept without an append. Nobody reads from it then, so
	// it must end before the server gives up writing a PING (10 s).
	directIdle = 2 * time.Second
	// answerBytes bounds a line of the server's.
	answerBytes = 32 << 10
)

// errDirect says that a connection of a log's own was lost or is not understood; whether
// the message was stored is not known.
var errDirect = errors.New("the log's own connection was lost")

// direct appends to one stream over a connection to the server of this process, on which
// the appending goroutine itself speaks NATS' protocol. The client library hands each
// message to three goroutines of its own, which is half of what a small append costs.
type direct struct {
	dial   func() (net.Conn, error) // nil: there is no such server
	stream string
	key    *keys.Key // nil: everybody is let in
	// newInbox returns a subject that the user may listen to.
	newInbox func() string

	mu     sync.Mutex // held for a whole append
	last   time.Time  // the end of the last append, by whatever way
	conn   net.Conn   // nil: none is open
	answer *bufio.Reader
	inbox  string
	out    []byte
	watch  *time.Timer // cuts a connection that does not answer
	rest   *time.Timer // ends one that is idle
}

// suits reports whether a message of n bytes is to go this way, and notes the append.
func (d *direct) suits(n int) bool {
	if d.dial == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	busy := now.Sub(d.last) < directGap
	d.last = now
	return busy && n <= events.MessageBytesMax
}

// append stores a message behind the one with sequence last. Every error but one of the
// server's ([jetstream.APIError]) leaves it open whether the message was stored.
func (d *direct) append(ctx context.Context, subject string, data []byte, last uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		if err := d.open(); err != nil {
			return fmt.Errorf("%w: %w", errDirect, err)
		}
	}
	d.watch.Reset(appendTime)
	stop := context.AfterFunc(ctx, d.cutter())
	err := d.exchange(subject, data, last)
	whole := stop() && d.watch.Stop() // else it was cut
	d.last = time.Now()
	var refused *jetstream.APIError
	lost := err != nil && !errors.As(err, &refused)
	if lost || !whole {
		d.close()
	}
	if lost {
		return fmt.Errorf("%w: %w", errDirect, err)
	}
	return err
}

// exchange sends a message and takes the answer.
func (d *direct) exchange(subject string, data []byte, last uint64) error {
	b := append(d.out[:0], "HPUB "...)
	b = append(b, subject...)
	b = append(b, ' ')
	b = append(b, d.inbox...)
	b = append(b, ' ')
	expected := strconv.FormatUint(last, 10)
	header := len(headerStream) + len(d.stream) + len(headerLast) + len(expected) + len(headerEnd)
	b = strconv.AppendInt(b, int64(header), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(header+len(data)), 10)
	b = append(b, "\r\n"+headerStream...)
	b = append(b, d.stream...)
	b = append(b, headerLast...)
	b = append(b, expected...)
	d.out = append(b, headerEnd...)
	if err := d.send(data); err != nil {
		return err
	}
	payload, err := d.await()
	if err != nil {
		return err
	}
	return d.acknowledged(payload, last+1)
}

// readBytes is how much the server reads at a time once it has seen long messages.
const readBytes = 64 << 10

// send writes what is in out, data and the end of a message. The middle of a long one is
// not copied; the pieces fill the server's reads, else it would make them smaller.
func (d *direct) send(data []byte) error {
	if len(data) >= 3*readBytes {
		n := readBytes - len(d.out)
		d.out = append(d.out, data[:n]...)
		if _, err := d.conn.Write(d.out); err != nil {
			return err
		}
		middle := (len(data) - n) / readBytes * readBytes
		if _, err := d.conn.Write(data[n : n+middle]); err != nil {
			return err
		}
		data, d.out = data[n+middle:], d.out[:0]
	}
	d.out = append(append(d.out, data...), "\r\n"...)
	_, err := d.conn.Write(d.out)
	return err
}

const (
	headerStream = "NATS/1.0\r\n" + jetstream.ExpectedStreamHeader + ": "
	headerLast   = "\r\n" + jetstream.ExpectedLastSeqHeader + ": "
	headerEnd    = "\r\n\r\n"
)

// acknowledged returns nil if an answer says that the message was stored under seq.
func (d *direct) acknowledged(payload []byte, seq uint64) error {
	want := append(d.out[:0], `{"stream":"`...) // out was sent
	want = append(want, d.stream...)
	want = append(want, `","seq":`...)
	want = strconv.AppendUint(want, seq, 10)
	if d.out = append(want, '}'); bytes.Equal(payload, d.out) {
		return nil
	}
	var ack struct {
		Stream string              `json:"stream"`
		Seq    uint64              `json:"seq"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(payload, &ack); err != nil {
		return fmt.Errorf("answer %q: %w", payload, err)
	}
	switch {
	case ack.Error != nil:
		return ack.Error
	case ack.Stream != d.stream || ack.Seq != seq:
		return fmt.Errorf("answer %q to message %d of %s", payload, seq, d.stream)
	}
	return nil
}

// await returns the payload of the next message; it is valid until the next call. What
// the server says besides is answered or passed over.
func (d *direct) await() ([]byte, error) {
	for {
		line, err := d.answer.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		switch {
		case bytes.HasPrefix(line, []byte("MSG ")):
			size, err := strconv.Atoi(string(bytes.TrimSpace(line[bytes.LastIndexByte(line, ' '):])))
			if err != nil || size < 0 || size > answerBytes/2 {
				return nil, fmt.Errorf("answer %q", line)
			}
			payload, err := d.answer.Peek(size + len("\r\n"))
			if err != nil {
				return nil, err
			}
			_, err = d.answer.Discard(len(payload))
			return payload[:size], err
		case bytes.HasPrefix(line, []byte("PING")):
			if _, err := io.WriteString(d.conn, "PONG\r\n"); err != nil {
				return nil, err
			}
		case bytes.HasPrefix(line, []byte("PONG")):
			return nil, nil
		case bytes.HasPrefix(line, []byte("INFO")), bytes.HasPrefix(line, []byte("+OK")):
		default: // an error, or a message with a header: nobody listens to the subject
			return nil, fmt.Errorf("answer %q", line)
		}
	}
}

// open connects, and subscribes to the answers.
func (d *direct) open() error {
	conn, err := d.dial()
	if err != nil {
		return err
	}
	d.conn, d.answer, d.inbox = conn, bufio.NewReaderSize(conn, answerBytes), d.newInbox()
	d.watch = time.AfterFunc(appendTime, d.cutter())
	defer d.watch.Stop()
	if err := d.greet(); err != nil {
		d.close()
		return err
	}
	d.rest = time.AfterFunc(directIdle, d.endIdle)
	return nil
}

func (d *direct) greet() error {
	line, err := d.answer.ReadSlice('\n') // the server's INFO
	if err != nil {
		return err
	}
	signed, err := d.sign(line)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(d.conn, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,"+
		"\"protocol\":1,\"lang\":\"go\",\"version\":%q,\"name\":%q%s}\r\nSUB %s 1\r\nPING\r\n",
		nats.Version, "log "+d.stream, signed, d.inbox); err != nil {
		return err
	}
	_, err = d.await()
	return err
}

// sign answers the challenge in a server's INFO: the members of CONNECT that it needs.
func (d *direct) sign(info []byte) (string, error) {
	if d.key == nil {
		return "", nil
	}
	var challenge struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(info, []byte("INFO ")), &challenge); err != nil {
		return "", fmt.Errorf("greeting of the server: %w", err)
	}
	signature, err := d.key.Sign([]byte(challenge.Nonce))
	if err != nil {
		return "", fmt.Errorf("sign the server's challenge: %w", err)
	}
	return fmt.Sprintf(`,"nkey":%q,"sig":%q`, d.key.Public(), base64.RawURLEncoding.EncodeToString(signature)), nil
}

// cutter returns what makes the open connection fail.
func (d *direct) cutter() func() {
	conn := d.conn
	return func() { _ = conn.Close() } // a pipe's: it cannot fail
}

// endIdle closes the connection if no append came for a while.
func (d *direct) endIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return
	}
	if left := directIdle - time.Since(d.last); left > 0 {
		d.rest.Reset(left)
		return
	}
	d.close()
}

// close is called under the lock.
func (d *direct) close() {
	_ = d.conn.Close() // a pipe's: it cannot fail
	d.conn = nil
	d.watch.Stop()
	if d.rest != nil {
		d.rest.Stop()
	}
}
