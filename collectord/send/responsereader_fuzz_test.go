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

// FuzzResponse compares the reader with that of net/http, which is more lenient.
func FuzzResponse(f *testing.F) {
	for _, a := range responseCases {
		f.Add([]byte(a.sent), len(a.sent)/2)
		f.Add([]byte(a.sent+a.sent), len(a.sent))
	}
	for _, text := range closeDelimited {
		f.Add([]byte(text), 7)
	}
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		r := newReader(bytes.NewReader(text))
		got, err := r.read()
		pieces := newReader(iotest.OneByteReader(bytes.NewReader(text)))
		other, otherErr := pieces.read()
		if got.status != other.status || !bytes.Equal(got.body, other.body) || !errors.Is(otherErr, err) || other.closes && !got.closes {
			t.Fatalf("%+v, %v; in pieces: %+v, %v", got, err, other, otherErr)
		}
		if err != nil {
			return
		}
		rest, err := io.ReadAll(pieces.buffered)
		if err != nil {
			t.Fatal(err)
		}
		if used := len(text) - len(rest); at >= 0 && at < used && !isCloseDelimited(text[:used]) {
			if part, err := newReader(bytes.NewReader(text[:at])).read(); err == nil {
				t.Fatalf("the first %d of %d bytes were read as the response %+v", at, used, part)
			}
		}
		if err := compareWithNetHTTP(other, text, rest); err != nil {
			t.Fatal(err)
		}
	})
}

// isCloseDelimited reports whether only the end of the connection ends the response.
func isCloseDelimited(text []byte) bool {
	_, err := newReader(io.MultiReader(bytes.NewReader(text), iotest.ErrReader(net.ErrClosed))).read()
	return err != nil
}

// compareWithNetHTTP compares the response read from text, and the rest of text after it, with net/http.
func compareWithNetHTTP(got response, text, rest []byte) error {
	from := bufio.NewReader(bytes.NewReader(text))
	for {
		want, err := http.ReadResponse(from, nil)
		if err != nil && strings.Contains(err.Error(), "bad trailer key") {
			return nil // net/http rejects some values of Trailer, which this package ignores
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
		if got.status != want.StatusCode || !bytes.Equal(got.body, body) || !bytes.Equal(rest, left) || want.Close && !got.closes || got.replayed != (strings.Join(want.Header.Values("Idempotency-Replayed"), "") != "") {
			return fmt.Errorf("%+v, before %q; net/http: %+v, %q, before %q", got, rest, want, body, left)
		}
		return nil
	}
}
