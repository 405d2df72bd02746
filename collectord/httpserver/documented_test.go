package httpserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/usage"
	"collectord/wal"
)

// TestEveryProblemIsAnswered provokes each kind of problem over a socket.
func TestEveryProblemIsAnswered(t *testing.T) {
	rows := map[string]int{}
	for _, k := range ProblemKinds() {
		if rows[k.Code] != 0 || http.StatusText(k.Status) == "" || k.Meaning == "" || k.Advice == "" {
			t.Errorf("%s is a duplicate or incomplete: %+v", k.Code, k)
		}
		rows[k.Code] = k.Status
	}
	codes := codeConstants(t)
	if listed := slices.Sorted(maps.Keys(rows)); !slices.Equal(listed, codes) {
		t.Fatalf("the table lists %v, the package has %v", listed, codes)
	}
	cases := provocations()
	for code, status := range rows {
		provoke, ok := cases[code]
		if !ok {
			t.Errorf("no request of this test provokes %s", code)
			continue
		}
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			log.appendErr = provoke.appendErr
			limits := withoutDeadlines(Limits{MaxRecord: 1 << 10, MaxConnections: 20, Rate: 1})
			if code == CodeTimeout {
				limits.HeaderTimeout = 100 * time.Millisecond
			}
			_, addr := startServer(t, log, Options{Policy: provoke.policy, Limits: limits, MaxInFlight: 64 << 10})
			if provoke.prepare != nil {
				provoke.prepare(t, log, addr)
			}
			a, body := roundTrip(t, addr, provoke.request)
			var p struct {
				Type, Title, Code, Detail string
				Status                    int
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if a.StatusCode != status || p.Status != status || p.Code != code || p.Title == "" || p.Type != DefaultProblemBase+"#"+code || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s", a.Status, body)
			}
			retry, _ := strconv.Atoi(a.Header.Get("Retry-After"))
			if wants := status == http.StatusServiceUnavailable || status == http.StatusConflict || status == http.StatusTooManyRequests; wants != (retry > 0) {
				t.Errorf("%d with Retry-After %q", status, a.Header.Get("Retry-After"))
			}
			if strings.Contains(body, "secret") {
				t.Errorf("the response contains received data: %s", body)
			}
			for name, value := range provoke.header {
				if a.Header.Get(name) != value {
					t.Errorf("%s is %q, want %q", name, a.Header.Get(name), value)
				}
			}
		})
	}
}

// provocation is a request that causes a problem, and the policy, limits and log error for it.
type provocation struct {
	request   string
	appendErr error // of the log
	policy    auth.Policy
	header    map[string]string
	prepare   func(t *testing.T, log *memoryLog, addr string)
}

func provocations() map[string]provocation {
	bad := func(body string) provocation { return provocation{request: post(body)} }
	logError := func(err error) provocation {
		return provocation{request: post(`{"a":"secret"}`), appendErr: fmt.Errorf("%w: secret", err)}
	}
	line := func(l string, more ...string) provocation {
		return provocation{request: l + "\r\nHost: localhost\r\n" + strings.Join(append(more, "Content-Length: 0\r\n\r\n"), "\r\n")}
	}
	with := func(p provocation, name, value string) provocation {
		p.header = map[string]string{name: value}
		return p
	}
	return map[string]provocation{
		usage.CodeInvalidJSON:   bad(`{"secret":secret}`),
		usage.CodeNotAnObject:   bad(`"secret"`),
		usage.CodeEmpty:         bad(` [] `),
		usage.CodeDuplicateName: bad(`{"secret":1,"secret":2}`),
		usage.CodeInvalidUTF8:   bad("{\"secret\":\"\xff\"}"),
		usage.CodeTooDeep:       bad(strings.Repeat(`{"secret":`, 65) + "1" + strings.Repeat("}", 65)),
		usage.CodeNumberRange:   bad(`{"secret":1e999}`),
		CodeBadEncoding:         {request: post(`secret`, "Content-Encoding: gzip")},
		CodeBadRequest:          {request: post(`{}`, "Idempotency-Key: secret secret")},
		CodeUnauthorized: with(provocation{request: post(`{}`, "Authorization: Bearer secret"), policy: auth.Policy{Tokens: &auth.Tokens{}}},
			"WWW-Authenticate", `Bearer realm="collectord", error="invalid_token"`),
		CodeCrossSite:      {request: post(`{}`, "Sec-Fetch-Site: cross-site")},
		CodeNotFound:       line("GET /secret HTTP/1.1"),
		CodeMethod:         with(line("PUT /api/usages HTTP/1.1"), "Allow", "POST"),
		CodeTimeout:        {request: "POST /api/usages HTTP/1.1\r\nsecr"},
		usage.CodeTooLarge: bad(`{"secret":"` + strings.Repeat("secret", 200) + `"}`),
		CodeMediaType:      {request: post(`secret=1`, "Content-Type: application/x-www-form-urlencoded")},
		CodeEncoding:       with(provocation{request: post(`secret`, "Content-Encoding: secret")}, "Accept-Encoding", "gzip, zstd"),
		CodeExpectation:    {request: post(`{}`, "Expect: secret")},
		CodeHeaderSize:     line("GET / HTTP/1.1", "X: "+strings.Repeat("secret", 2000)),
		CodeVersion:        line("GET /secret HTTP/2.0"),
		CodeLogFull:        logError(wal.ErrFull),
		CodeShuttingDown:   logError(wal.ErrClosed),
		CodeCommitFailed:   logError(wal.ErrCommitFailed),
		CodeInternal:       logError(errors.New("of no kind")),
		CodeOverloaded:     {request: post(`["` + strings.Repeat("secret", 40_000) + `"]`)},
		CodeRateLimited: {request: post(`{"a":"secret"}`), prepare: func(t *testing.T, _ *memoryLog, addr string) {
			roundTrip(t, addr, post("["+strings.Repeat("{},", 99)+"{}]")) // usages for a hundred seconds
		}},
		CodeMismatch: {request: postWithKey("secret", `{"a":2}`), prepare: func(t *testing.T, _ *memoryLog, addr string) {
			roundTrip(t, addr, postWithKey("secret", `{"a":1}`))
		}},
		CodeInProgress: {request: postWithKey("secret", `{}`), prepare: func(t *testing.T, log *memoryLog, addr string) {
			log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, postWithKey("secret", `{}`)); err != nil {
				t.Fatal(err)
			}
			<-log.appendStarted
			t.Cleanup(func() {
				close(log.continueAppend)
				c.Close()
			})
		}},
	}
}

// codeConstants returns the values of all constants named Code… of this package and of
// package usage.
func codeConstants(t *testing.T) (codes []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, "../usage/usage.go") {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if strings.HasPrefix(name.Name, "Code") && i < len(spec.Values) {
					value, err := strconv.Unquote(spec.Values[i].(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					codes = append(codes, value)
				}
			}
			return true
		})
	}
	slices.Sort(codes)
	return codes
}

// The table of a connection's states is the same in docs/http-api.md and in the code.
func TestTheStatesOfAConnectionAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("conn.go")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\| state \|.*?\n\n`).FindString(string(page))
	rows := 0
	for _, row := range strings.Split(strings.ReplaceAll(table, "`", ""), "\n") {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) < 3 || strings.HasPrefix(row, "|---") {
			continue
		}
		rows++
		for i := range cells {
			cells[i] = regexp.QuoteMeta(strings.TrimSpace(cells[i]))
		}
		if !regexp.MustCompile(`(?m)^//\t` + strings.Join(cells, ` +`) + ` *$`).Match(code) {
			t.Errorf("docs/http-api.md has the row %q, but conn.go does not", row)
		}
	}
	if listed := len(documentedStates(t, "conn.go")); rows != listed+1 || listed != states+2 {
		t.Errorf("docs/http-api.md has %d rows, the comment %d, the code %d states", rows, listed, states)
	}
}
