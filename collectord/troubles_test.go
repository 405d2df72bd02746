package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/admin"
	"collectord/shipper/bucket"
)

func namesOfTroubles(all []admin.Trouble) (names []string) {
	for _, t := range all {
		names = append(names, t.Name)
	}
	return names
}

func TestOpenTroublesAreListedUntilTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, lines := newTestLog(slog.LevelError)
		began := time.Now()
		fail := func() {
			log.With("part", "x").Error("can't ship: everything is kept and tried again", "trouble", "shipping", "segment", 7,
				"error", &bucket.Error{Op: "put", Key: "k", Kind: "network", Hint: "start it", Err: errors.New("away")})
		}
		fail()
		<-time.After(time.Minute)
		fail()
		log.Warn("no heartbeat was written (see to it)", "trouble", "heartbeat", "error", "a text")
		log.Warn("the storage does not pass (collectord doctor)", "trouble", "storage_check", "error", "no bucket", "advice", "create it")
		log.Warn("TLS handshakes fail", "trouble", "handshake")
		log.Info("nothing of the kind")
		want := []admin.Trouble{
			{Name: "shipping", Verdict: admin.Failing, Message: "can't ship: everything is kept and tried again", Error: "put k: away", Advice: "start it", Since: began, Last: time.Now(), Times: 2},
			{Name: "handshake", Verdict: admin.Fine, Message: "TLS handshakes fail", Since: time.Now(), Last: time.Now(), Times: 1, Momentary: true},
			{Name: "heartbeat", Verdict: admin.Warning, Message: "no heartbeat was written", Error: "a text", Advice: "see to it", Since: time.Now(), Last: time.Now(), Times: 1},
			{Name: "storage_check", Verdict: admin.Warning, Message: "the storage does not pass", Error: "no bucket", Advice: "create it", Since: time.Now(), Last: time.Now(), Times: 1},
		}
		got := h.openTroubles()
		for i := range got {
			got[i].Since, got[i].Last = got[i].Since.Round(0), got[i].Last.Round(0)
		}
		for i := range want {
			want[i].Since, want[i].Last = want[i].Since.Round(0), want[i].Last.Round(0)
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed\n%+v\nwant\n%+v", got, want)
		}
		if is := h.states(); !is["shipping"] || is["full"] || len(is) < len(troubleKinds) {
			t.Errorf("%v", is)
		}
		// A flapping trouble with few log lines is listed with its current state.
		log.Info("shipping again", "trouble", "shipping")
		if names := namesOfTroubles(h.openTroubles()); !slices.Equal(names, []string{"handshake", "heartbeat", "storage_check"}) {
			t.Errorf("after the end: %q", names)
		}
		<-time.After(momentaryFor + time.Second)
		if names := namesOfTroubles(h.openTroubles()); !slices.Equal(names, []string{"heartbeat", "storage_check"}) {
			t.Errorf("after %v: %q", momentaryFor, names)
		}
		log.Info("the storage passes", "trouble", "storage_check")
		log.Warn("TLS handshakes fail", "trouble", "handshake")
		if all := h.openTroubles(); len(all) != 2 || all[1].Times != 1 || !all[1].Since.Equal(time.Now()) {
			t.Errorf("once more: %+v", all)
		}
		lines()
	})
}

// TestTheTroubleReporterIsWokenWhenOneBeginsOrEnds also checks that other failures do not
// wake the reporter.
func TestTheTroubleReporterIsWokenWhenOneBeginsOrEnds(t *testing.T) {
	log, h, _ := newTestLog(slog.LevelError)
	woken := func() bool {
		select {
		case <-h.troubles.changed:
			return true
		default:
			return false
		}
	}
	for i, step := range []struct {
		log  func()
		want bool
	}{
		{func() { log.Error("a") }, false},
		{func() { log.Error("a", "trouble", "a") }, true},
		{func() { log.Error("a", "trouble", "a") }, false},
		{func() { log.Info("over", "trouble", "a") }, true},
		{func() { log.Info("over", "trouble", "a") }, false},
		{func() { log.Info("over", "trouble", "b") }, false},
		{func() { log.Warn("a", "trouble", "a") }, true},
	} {
		if step.log(); woken() != step.want {
			t.Errorf("step %d: woken: %t", i, !step.want)
		}
	}
	h.flush()
}

func TestAdviceIsWhatAMessageEndsWith(t *testing.T) {
	for message, want := range map[string][2]string{
		"what: why":                       {"what: why", ""},
		"what: why (what to do)":          {"what: why", "what to do"},
		"what (why) (do (this), or that)": {"what (why)", "do (this), or that"},
		"what (why) it is":                {"what (why) it is", ""},
		"what)":                           {"what)", ""},
		"(all)":                           {"(all)", ""},
		"":                                {"", ""},
	} {
		if what, advice := adviceIn(message); what != want[0] || advice != want[1] {
			t.Errorf("%q: %q, %q", message, what, advice)
		}
	}
}

// TestEachTroubleOfTheHostSaysWhatToDo logs each trouble with a line that has no advice.
func TestEachTroubleOfTheHostSaysWhatToDo(t *testing.T) {
	log, h, _ := newTestLog(slog.LevelError)
	for name := range troubleKinds {
		log.Error("something fails: this is tried again", "trouble", name, "error", errors.New("EIO"))
	}
	for _, open := range h.openTroubles() {
		if open.Verdict != admin.Fine && open.Advice == "" {
			t.Errorf("%s: %+v", open.Name, open)
		}
	}
}

// TestKindsOfTroublesAreThoseOfTheSource checks troubleKinds. A trouble that no line ends
// would be listed forever. An unlisted one would be missing in the metrics until it occurs.
func TestKindsOfTroublesAreThoseOfTheSource(t *testing.T) {
	begins, ends := loggedTroubles(t)
	// The trouble in shiparchive.go is logged by a command, not by the daemon.
	delete(begins, "archive")
	for name, kind := range troubleKinds {
		if begins[name] == 0 {
			t.Errorf("nothing logs the trouble %q", name)
		}
		if ended := ends[name] > 0; ended == kind.isMomentary() {
			t.Errorf("a line logs the end of the trouble %q: %t", name, ended)
		}
	}
	for name := range begins {
		if _, known := troubleKinds[name]; !known {
			t.Errorf("the trouble %q is not in troubleKinds", name)
		}
	}
}

// loggedTroubles counts the calls that log each trouble, and those that log its end. Names
// that are made at run time are counted as if both were logged.
func loggedTroubles(t *testing.T) (begins, ends map[string]int) {
	t.Helper()
	begins = map[string]int{"udp_overloaded": 1, "last look": 1, "lost by the storage": 1, "vanished": 1} // udpserver/watch.go, shipper/look.go
	ends = maps.Clone(begins)
	madeAtRunTime := 0
	constants, calls := map[string]string{}, []*ast.CallExpr{}
	files := token.NewFileSet()
	for _, root := range []string{".", "../wal", "../shipper"} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, name := range n.Names {
						if i < len(n.Values) {
							if text, ok := literal(n.Values[i], nil); ok {
								constants[name.Name] = text
							}
						}
					}
				case *ast.CallExpr:
					calls = append(calls, n)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, call := range calls {
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Info", "Warn", "Error"}, method.Sel.Name) {
			continue
		}
		for i, arg := range call.Args {
			if key, ok := literal(arg, constants); !ok || key != troubleKey || i+1 == len(call.Args) {
				continue
			}
			name, ok := literal(call.Args[i+1], constants)
			switch {
			case !ok:
				madeAtRunTime++
			case method.Sel.Name == "Info":
				ends[name]++
			default:
				begins[name]++
			}
		}
	}
	if want := 3; madeAtRunTime != want { // the first statement of this function lists these names
		t.Errorf("%d names of troubles are made at run time, not %d", madeAtRunTime, want)
	}
	return begins, ends
}

// literal returns the text of an expression of literals and constants.
func literal(e ast.Expr, constants map[string]string) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.Ident:
		text, ok = constants[e.Name]
		return text, ok
	case *ast.SelectorExpr:
		text, ok = constants[e.Sel.Name]
		return text, ok
	case *ast.BinaryExpr:
		left, ok1 := literal(e.X, constants)
		right, ok2 := literal(e.Y, constants)
		return left + right, ok1 && ok2 && e.Op == token.ADD
	}
	return "", false
}
