package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostileText is a hostile name or value. It starts colours, ends lines, changes the
// direction of text, and forges a verdict.
const hostileText = "a\x1b[31m\rb\x7f\u009b31m\u202e\u2066\x9b\nRIGHT: forged\n\tc"

// terminalHazard returns an error for a text that would control a terminal, or that looks
// like a line of collectord's.
func terminalHazard(text string) error {
	for _, r := range text {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return fmt.Errorf("the text contains %+q", r)
		}
	}
	switch {
	case !utf8.ValidString(text):
		return errors.New("the text is not valid UTF-8")
	case strings.Contains("\n"+text, "\nRIGHT: forged"):
		return errors.New("the verdict is forged")
	}
	return nil
}

func TestTextOfStrangersIsQuoted(t *testing.T) {
	var out strings.Builder
	writef(&out, "%s: %v of %d\n", hostileText, errors.New(hostileText), 7)
	if err := terminalHazard(out.String()); err != nil || strings.Count(out.String(), "\n") != 1 || !strings.HasSuffix(out.String(), " of 7\n") {
		t.Errorf("%v: %q", err, out.String())
	}
	out.Reset()
	writef(&out, "%s %v\n", "plain, with \"quotes\" and \\ ünïcode", errors.New("x"))
	if out.String() != "plain, with \"quotes\" and \\ ünïcode x\n" {
		t.Errorf("%q", out.String())
	}
	text := errorText(errors.Join(errors.New(hostileText), fmt.Errorf("%w, %w", errors.New("b"), errors.New("c"))))
	if lines := strings.Split(text, "\n"); terminalHazard(text) != nil || len(lines) != 3 || lines[1] != "collectord: b, c" {
		t.Errorf("%q", text)
	}
}

func TestEveryWriterQuotesControlCharacters(t *testing.T) {
	text := []byte("日本語 ö\t" + strings.ReplaceAll(hostileText, "RIGHT", "x") + "\xf0\x9f\n")
	var whole bytes.Buffer
	if n, err := (&visibleWriter{out: &whole}).Write(text); n != len(text) || err != nil || terminalHazard(whole.String()) != nil || !strings.HasPrefix(whole.String(), "日本語 ö\t") {
		t.Errorf("%d, %v: %q", n, err, whole.String())
	}
	for size := 1; size < len(text); size++ {
		var out bytes.Buffer
		w := &visibleWriter{out: &out}
		for at := 0; at < len(text); at += size {
			if _, err := w.Write(text[at:min(at+size, len(text))]); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != whole.String() {
			t.Fatalf("in pieces of %d: %q, want %q", size, out.String(), whole.String())
		}
	}
	// JSON stays the same value.
	var out bytes.Buffer
	value, got := strings.ToValidUTF8(hostileText, "?"), ""
	if err := json.NewEncoder(&visibleWriter{out: &out}).Encode(value); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != value || terminalHazard(out.String()) != nil {
		t.Errorf("%v: %q", err, out.String())
	}
}
