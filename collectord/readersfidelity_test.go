//go:build torture

package main

import (
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fidelity is how well a reader preserves a usage. Later values are worse.
type fidelity int

const (
	exact   fidelity = iota // byte for byte
	same                    // the same JSON value in other bytes
	changed                 // another value, or no JSON
	lost                    // no record, or null instead of the usage
)

// judge compares a usage with the text that a reader returned. got is nil if the reader
// returned none.
func judge(sent string, got *string) fidelity {
	switch {
	case got == nil:
		return lost
	case *got == sent:
		return exact
	}
	a, b := decodeUsage(sent), decodeUsage(*got)
	if b != nil && equalValues(a, b) {
		return same
	}
	return changed
}

func decodeUsage(text string) any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return v
}

func equalValues(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		other, ok := b.(map[string]any)
		if !ok || len(a) != len(other) {
			return false
		}
		for name, v := range a {
			if w, ok := other[name]; !ok || !equalValues(v, w) {
				return false
			}
		}
		return true
	case []any:
		other, ok := b.([]any)
		return ok && slices.EqualFunc(a, other, equalValues)
	case json.Number:
		other, ok := b.(json.Number)
		return ok && equalNumbers(string(a), string(other))
	}
	return reflect.DeepEqual(a, b)
}

var digits = regexp.MustCompile(`[eE].*|\D`)

// equalNumbers reports whether two decimals are equal. Fractions are also equal if both mean
// the same binary64, and the sent one has no more digits than a binary64 can store.
func equalNumbers(sent, got string) bool {
	a, _ := new(big.Rat).SetString(sent)
	b, ok := new(big.Rat).SetString(got)
	if !ok || (a.Sign() == 0 && strings.HasPrefix(sent, "-") != strings.HasPrefix(got, "-")) {
		return false
	}
	x, _ := strconv.ParseFloat(sent, 64)
	y, _ := strconv.ParseFloat(got, 64)
	return a.Cmp(b) == 0 || x == y && strings.ContainsAny(sent, ".eE") && len(digits.ReplaceAllString(sent, "")) <= 17
}

func TestFidelity(t *testing.T) {
	for _, c := range []struct {
		sent, got string
		want      fidelity
	}{
		{`{"a":1}`, `{"a":1}`, exact},
		{`{"a":1.0,"b":[]}`, `{"b": [],"a":1}`, same},
		{`{"a":"\u00e9"}`, `{"a":"é"}`, same},
		{`{"a":5e-324}`, `{"a":4.9E-324}`, same},
		{`{"a":-0}`, `{"a":0}`, changed},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, changed},
		{`{"a":9007199254740993}`, `{"a":9007199254740993.0}`, same},
		{`{"a":0.1234567890123456789}`, `{"a":0.12345678901234568}`, changed},
		{`{"a":1,"A":2}`, `{"A":2}`, changed},
		{`{"a":null}`, `{}`, changed},
		{`{"a":"\u0000"}`, "{\"a\":\"\x00\"}", changed},
	} {
		if got := judge(c.sent, &c.got); got != c.want {
			t.Errorf("%s, read as %s: %d, want %d", c.sent, c.got, got, c.want)
		}
	}
	if judge("{}", nil) != lost {
		t.Error("a usage that was not returned is not judged as lost")
	}
}

// codeCell returns a text as code for a cell of a table. It shortens long texts.
func codeCell(text string) string {
	quoted := strconv.Quote(text)
	quoted = strings.NewReplacer(`\"`, `"`, `\\`, `\`, "|", `\|`).Replace(quoted[1 : len(quoted)-1])
	if r := []rune(quoted); len(r) > 75 {
		quoted = string(r[:55]) + "…" + string(r[len(r)-10:])
	}
	return "`" + quoted + "`"
}
