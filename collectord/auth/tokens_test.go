package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func readTokens(t *testing.T, text string) (*Tokens, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadTokens(path)
}

func TestNewTokenIsKnownByItsLine(t *testing.T) {
	token, line := NewToken("ward-3", 0)
	if len(token) != 46 || !regexp.MustCompile(`^cd_[A-Za-z0-9_-]{43}$`).MatchString(token) || strings.Contains(line, token) {
		t.Errorf("%s, %s", token, line)
	}
	limited, limitedLine := NewToken("ward-4", 7)
	tokens, err := readTokens(t, "# tokens\r\n\n  "+line+"\r\n"+limitedLine)
	if err != nil {
		t.Fatal(err)
	}
	for is, want := range map[string]string{token: "ward-3", limited: "ward-4", token[:45]: "", token + "x": "", "": "", "cd_" + strings.Repeat("x", 43): ""} {
		if name, known := tokens.name([]byte(is)); name != want || known != (want != "") {
			t.Errorf("the token has the name %q, want %q", name, want)
		}
	}
	if fmt.Sprint(tokens.rates) != "map[ward-4:7]" {
		t.Errorf("rates %v", tokens.rates)
	}
	if other, _ := NewToken("ward-3", 0); other == token {
		t.Error("two tokens are the same")
	}
}

func TestAllErrorsOfATokensFileAreReportedWithoutItsContent(t *testing.T) {
	token, line := NewToken("a", 0)
	_, other := NewToken("b", 0)
	hash := strings.Fields(other)[1]
	for i, c := range []struct{ line, want string }{
		{line, ""},
		{"# " + token, ""},
		{"b", "has no sha256:"},
		{"b " + strings.TrimPrefix(hash, "sha256:"), "something other than sha256: and 64"},
		{"b " + hash[:70], "something other than sha256: and 64"},
		{"b SHA256:" + hash[7:], "something other than sha256: and 64"},
		{"b/c " + hash, "does not begin with a name"},
		{strings.Repeat("b", 64) + " " + hash, "does not begin with a name"},
		{"b " + hash + " rate=0", "something other than rate="},
		{"b " + hash + " rate=1.5", "something other than rate="},
		{"b " + hash + " limit=5", "something other than rate="},
		{"b " + hash + " rate=5 rate=6", "has more fields after the rate"},
		{"a " + hash, ""},
		{"a " + hash + " rate=5", "has the name of line 1 and another rate"},
		{"c" + line[1:], "has the token of line 1"},
		{token, "contains a token"},
		{"b " + token, "contains a token"},
		{"b " + strings.ToUpper(hash[7:]), "something other than sha256:"},
		{"b sha256:" + strings.ToUpper(hash[7:]), ""},
	} {
		lines := make([]string, i+1)
		lines[0], lines[i] = line, c.line
		_, err := readTokens(t, strings.Join(lines, "\n"))
		var lineErrors LineErrors
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.line, err)
			}
			continue
		}
		if !errors.As(err, &lineErrors) || len(lineErrors) != 1 || lineErrors[0].Line != i+1 || !strings.Contains(lineErrors[0].Reason, c.want) {
			t.Errorf("%q: %v", c.line, err)
		} else if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), hash[7:20]) {
			t.Errorf("the error contains content of the file: %v", err)
		}
	}
	if _, err := readTokens(t, "a\n\nb\n"+line); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want two errors: %v", err)
	}
	if _, err := readTokens(t, strings.Repeat("#", maxTokensFile+1)); err == nil {
		t.Error("a file above the maximum size was read")
	}
	if _, err := ReadTokens(t.TempDir() + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A client can get a new token while the old one is valid. Both have its name and its rate.
func TestANameMayHaveSeveralTokens(t *testing.T) {
	older, olderLine := NewToken("ward-3", 7)
	newer, newerLine := NewToken("ward-3", 7)
	tokens, err := readTokens(t, "\ufeff"+olderLine+"\r\n"+newerLine+"\r\n") // as programs on Windows write it
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{older, newer} {
		if name, known := tokens.name([]byte(token)); name != "ward-3" || !known {
			t.Errorf("a token has the name %q", name)
		}
	}
	if tokens.Count() != 2 || fmt.Sprint(tokens.names(), tokens.rates) != "[ward-3] map[ward-3:7]" {
		t.Errorf("%d tokens, names %v, rates %v", tokens.Count(), tokens.names(), tokens.rates)
	}
	before, _ := readTokens(t, olderLine)
	if added, removed := tokens.Since(before); added != 1 || removed != 0 {
		t.Errorf("%d added, %d removed", added, removed)
	}
}

func TestTokensSinceCountsAddedAndRemoved(t *testing.T) {
	_, a := NewToken("a", 0)
	_, b := NewToken("b", 0)
	_, c := NewToken("c", 0)
	first, _ := readTokens(t, a+"\n"+b)
	second, _ := readTokens(t, b+"\n"+c+"\nd"+a[1:])
	if added, removed := second.Since(first); added != 2 || removed != 1 {
		t.Errorf("%d added, %d removed", added, removed)
	}
	var none *Tokens
	if added, removed := none.Since(first); added != 0 || removed != 2 {
		t.Errorf("from two tokens to none: %d added, %d removed", added, removed)
	}
}

// A lookup hashes the token and allocates no memory.
func TestLookingUpATokenAllocatesNothing(t *testing.T) {
	token, line := NewToken("a", 0)
	tokens, err := ParseTokens([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	presented := []byte(token)
	if n := testing.AllocsPerRun(1000, func() {
		if _, known := tokens.name(presented); !known {
			t.Fatal("the token is unknown")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkToken(b *testing.B) {
	token, line := NewToken("a", 0)
	tokens, err := ParseTokens([]byte(line))
	if err != nil {
		b.Fatal(err)
	}
	presented := []byte(token)
	for b.Loop() {
		if _, known := tokens.name(presented); !known {
			b.Fatal("not known")
		}
	}
}
