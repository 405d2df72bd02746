package send

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzAnswer compares the reader with that of net/http, which is more lenient.
func FuzzAnswer(f *testing.F) {
	for _, a := range answers {
		f.Add([]byte(a.bytes), len(a.bytes)/2)
		f.Add([]byte(a.bytes+a.bytes), len(a.bytes))
	}
	for _, text := range endless {
		f.Add([]byte(text), 7)
	}
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		r := readerOf(bytes.NewReader(text))
		got, err := r.read()
		pieces := readerOf(iotest.OneByteReader(bytes.NewReader(text)))
		other, otherErr := pieces.read()
		if got.status != other.status || !bytes.Equal(got.body, other.body) || !errors.Is(otherErr, err) || other.last && !got.last {
			t.Fatalf("%+v, %v; in pieces: %+v, %v", got, err, other, otherErr)
		}
		if err != nil {
			return
		}
		rest, err := io.ReadAll(pieces.from)
		if err != nil {
			t.Fatal(err)
		}
		if used := len(text) - len(rest); at >= 0 && at < used && !untilClosed(text[:used]) {
			if part, err := readerOf(bytes.NewReader(text[:at])).read(); err == nil {
				t.Fatalf("%d bytes of %d are %+v", at, used, part)
			}
		}
		if err := agrees(other, text, rest); err != nil {
			t.Fatal(err)
		}
	})
}

// untilClosed reports whether nothing but the end of the connection ends an answer.
func untilClosed(text []byte) bool {
	_, err := readerOf(io.MultiReader(bytes.NewReader(text), iotest.ErrReader(net.ErrClosed))).read()
	return err != nil
}

// agrees compares what was read of a text, and what was left, with net/http.
func agrees(got answer, text, rest []byte) error {
	from := bufio.NewReader(bytes.NewReader(text))
	for {
		want, err := http.ReadResponse(from, nil)
		if err != nil && strings.Contains(err.Error(), "bad trailer key") {
			return nil // an announcement, which is of no interest here
		}
		if err != nil {
			return err
		}
		if want.StatusCode < 200 && want.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(want.Body)
		if err != nil {
			return err
		}
		left, err := io.ReadAll(from)
		if err != nil {
			return err
		}
		if got.status != want.StatusCode || !bytes.Equal(got.body, body) || !bytes.Equal(rest, left) || want.Close && !got.last || got.replayed != (strings.Join(want.Header.Values("Idempotency-Replayed"), "") != "") {
			return fmt.Errorf("%+v, before %q; net/http: %+v, %q, before %q", got, rest, want, body, left)
		}
		return nil
	}
}
