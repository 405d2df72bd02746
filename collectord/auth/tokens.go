package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A token is tokenPrefix and 32 random bytes as unpadded base64url, 46 characters in
// total. Scanners for leaked secrets can find tokens by the prefix.
const (
	tokenPrefix = "cd_"
	tokenBytes  = 32
	tokenLength = len(tokenPrefix) + (tokenBytes*8+5)/6
)

// maxTokensFile is the maximum size of the file in bytes, enough for about 10,000
// tokens.
const maxTokensFile = 1 << 20

// MaxTokenRate is the maximum rate of a token, in usages per second.
const MaxTokenRate = 1 << 30

// Tokens is the content of a tokens file. It is immutable.
type Tokens struct {
	// A token is looked up by its SHA-256. The time of a lookup may reveal how much of
	// the digest matches a known one. That does not help an attacker, who can neither
	// choose digests nor derive a token from one.
	byDigest map[[sha256.Size]byte]string
	rates    map[string]float64 // usages per second, by name; only tokens that have a rate
}

// Count returns the number of tokens.
func (t *Tokens) Count() int { return len(t.byDigest) }

// Since returns how many tokens were added and removed relative to before. Both t and
// before may be nil.
func (t *Tokens) Since(before *Tokens) (added, removed int) {
	missing := func(all, from *Tokens) (n int) {
		if all == nil {
			return 0
		}
		for digest, name := range all.byDigest {
			if from == nil || from.byDigest[digest] != name {
				n++
			}
		}
		return n
	}
	return missing(t, before), missing(before, t)
}

// names returns the sorted names of the tokens' clients, each once. t may be nil.
func (t *Tokens) names() []string {
	if t == nil {
		return nil
	}
	return slices.Compact(slices.Sorted(maps.Values(t.byDigest)))
}

// name returns the name of the client that owns a token.
func (t *Tokens) name(token []byte) (name string, known bool) {
	if len(token) != tokenLength || string(token[:len(tokenPrefix)]) != tokenPrefix {
		return "", false
	}
	name, known = t.byDigest[sha256.Sum256(token)]
	return name, known
}

// LineErrors is all errors of a file that is parsed line by line.
type LineErrors []LineError

// LineError is an error in one line. It contains no part of the line.
type LineError struct {
	Line   int // from 1
	Reason string
}

func (e LineErrors) Error() string {
	lines := make([]string, len(e))
	for i, l := range e {
		lines[i] = fmt.Sprintf("line %d: %s", l.Line, l.Reason)
	}
	return strings.Join(lines, "\n")
}

// ReadTokens reads a file with one token per line:
//
//	NAME sha256:HEX [rate=N]
//
// Blank lines and lines that begin with # are skipped. A name may have several tokens, so
// that a client can get a new one before the old one is removed; they share their rate.
// The error is a LineErrors if the content is invalid.
func ReadTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxTokensFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxTokensFile {
		return nil, fmt.Errorf("%s: has more than %d bytes", path, maxTokensFile)
	}
	return ParseTokens(bytes.TrimPrefix(content, byteOrderMark))
}

// ParseTokens parses the content of a tokens file. See ReadTokens.
func ParseTokens(content []byte) (*Tokens, error) {
	t := &Tokens{byDigest: map[[sha256.Size]byte]string{}, rates: map[string]float64{}}
	names, digests := map[string]int{}, map[[sha256.Size]byte]int{} // line numbers; of a name, the first one
	var lineErrors LineErrors
	for i, line := range bytes.Split(content, []byte("\n")) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		number := i + 1
		l, err := parseToken(fields)
		before := names[l.name]
		if err == nil && before > 0 && t.rates[l.name] != float64(l.rate) {
			err = fmt.Errorf("has the name of line %d and another rate: all tokens of a name share one rate", before)
		}
		if before := digests[l.digest]; err == nil && before > 0 {
			err = fmt.Errorf("has the token of line %d", before)
		}
		if err != nil {
			lineErrors = append(lineErrors, LineError{number, err.Error()})
			continue
		}
		if before == 0 {
			names[l.name] = number
		}
		digests[l.digest] = number
		t.byDigest[l.digest] = l.name
		if l.rate > 0 {
			t.rates[l.name] = float64(l.rate)
		}
	}
	if len(lineErrors) > 0 {
		return nil, lineErrors
	}
	return t, nil
}

type tokenLine struct {
	name   string
	digest [sha256.Size]byte
	rate   int
}

func parseToken(fields []string) (l tokenLine, err error) {
	for _, f := range fields {
		if strings.HasPrefix(f, tokenPrefix) && len(f) == tokenLength {
			return l, errors.New("contains a token: put only its hash here, as collectord token new prints it")
		}
	}
	if l.name = fields[0]; !ValidClient(l.name) {
		return l, errors.New("does not begin with a name of 1 to 63 letters, digits, dots, underscores and hyphens (. and .. are not allowed)")
	}
	if len(fields) < 2 {
		return l, errors.New("has no sha256: after the name")
	}
	text, found := strings.CutPrefix(fields[1], "sha256:")
	digest, err := hex.DecodeString(text)
	if !found || err != nil || len(digest) != sha256.Size {
		return l, errors.New("has something other than sha256: and 64 hexadecimal digits after the name")
	}
	copy(l.digest[:], digest)
	if len(fields) == 2 {
		return l, nil
	}
	text, found = strings.CutPrefix(fields[2], "rate=")
	l.rate, err = strconv.Atoi(text)
	if !found || err != nil || l.rate < 1 || l.rate > MaxTokenRate {
		return l, fmt.Errorf("has something other than rate= and a number from 1 to %d after the hash", MaxTokenRate)
	}
	if len(fields) > 3 {
		return l, errors.New("has more fields after the rate")
	}
	return l, nil
}

var clientName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// ValidClient reports whether name is valid for a client. A valid name is also safe as
// a file name.
func ValidClient(name string) bool {
	return clientName.MatchString(name) && name != "." && name != ".."
}

// NewToken generates a token, and the line for the tokens file. The rate is in usages
// per second; 0 means no rate. The name must be a ValidClient.
func NewToken(name string, rate int) (token, line string) {
	secret := make([]byte, tokenBytes)
	_, _ = rand.Read(secret) // never fails
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(secret)
	line = fmt.Sprintf("%s sha256:%x", name, sha256.Sum256([]byte(token)))
	if rate > 0 {
		line += fmt.Sprintf(" rate=%d", rate)
	}
	return token, line
}
