//go:build torture

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// browser is a Chromium that is controlled with the DevTools protocol over two pipes
// (--remote-debugging-pipe). Messages are JSON and end with a zero byte.
type browser struct {
	t        *testing.T
	commands io.WriteCloser
	session  string // of the only page
	answers  chan message

	mu     sync.Mutex // guards all below
	lastID int
	events []message // of the page, since the last visit
	loaded int       // pages, since the last visit
}

// message is a command, its answer or an event.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
}

// startBrowser starts Chromium with an empty page.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	commandsRead, commandsWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{commandsRead, answers} // descriptors 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	commandsRead.Close()
	answers.Close()
	b := &browser{t: t, commands: commandsWrite, answers: make(chan message, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.listen(from)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the browser and its children
		_ = cmd.Wait()
		commandsWrite.Close()
		from.Close()
		<-ended
	})
	type target struct{ TargetID, Type string }
	var targets struct{ TargetInfos []target }
	page := -1 // the browser lists its pages and its own parts in any order
	t.Cleanup(func() {
		if page < 0 {
			t.Logf("the browser has no page: %+v", targets.TargetInfos)
		}
	})
	until(t, "the browser has a page", func() bool {
		b.call("Target.getTargets", nil, &targets)
		page = slices.IndexFunc(targets.TargetInfos, func(one target) bool { return one.Type == "page" })
		return page >= 0
	})
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": targets.TargetInfos[page].TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Log", "Runtime", "Accessibility"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// listen forwards answers and stores events until the browser ends.
func (b *browser) listen(from io.Reader) {
	messages := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := messages.ReadBytes(0)
		if err != nil {
			close(b.answers)
			return
		}
		var m message
		if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m); err != nil {
			continue
		}
		if m.ID != 0 {
			b.answers <- m
			continue
		}
		b.mu.Lock()
		b.events = append(b.events, m)
		if m.Method == "Page.loadEventFired" {
			b.loaded++
		}
		b.mu.Unlock()
	}
}

// call sends a command and reads its result. Only one call is in progress at a time.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.lastID++
	text, err := json.Marshal(params)
	if params == nil {
		text = []byte("{}")
	}
	if err == nil {
		text, err = json.Marshal(message{ID: b.lastID, Session: b.session, Method: method, Params: text})
	}
	if err == nil {
		_, err = b.commands.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case m, open := <-b.answers:
		err = nil
		switch {
		case !open:
			err = errors.New("the browser is gone")
		case m.ID != b.lastID:
			err = fmt.Errorf("an answer to call %d instead of call %d", m.ID, b.lastID)
		case m.Error != nil:
			err = fmt.Errorf("%s", m.Error)
		case result != nil:
			err = json.Unmarshal(m.Result, result)
		}
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	case <-time.After(testTimeout):
		b.t.Fatalf("no answer to %s after %v", method, testTimeout)
	}
}

// visit opens a page and waits until it has loaded.
func (b *browser) visit(url string) {
	b.t.Helper()
	b.mu.Lock()
	b.events, b.loaded = nil, 0
	b.mu.Unlock()
	var answer struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &answer)
	if answer.ErrorText != "" {
		b.t.Fatalf("%s: %s", url, answer.ErrorText)
	}
	b.waitLoaded(1)
}

// waitLoaded waits until n pages have loaded since the visit began.
func (b *browser) waitLoaded(n int) {
	b.t.Helper()
	until(b.t, "the page has loaded", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.loaded >= n
	})
}

// eventsOf returns the events of a kind since the visit began.
func (b *browser) eventsOf(method string) (params []json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Method == method {
			params = append(params, e.Params)
		}
	}
	return params
}

// eval evaluates JavaScript in the page. The page's Content-Security-Policy does not apply
// to the debugger.
func (b *browser) eval(script string, result any) {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true}, &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", script, answer.ExceptionDetails)
	}
	if err := json.Unmarshal(answer.Result.Value, result); err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
}

// emulate sets the width of the window, and media features such as prefers-color-scheme.
func (b *browser) emulate(width int, scale float64, features ...string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": scale, "mobile": width < 500}, nil)
	media := []map[string]string{}
	for i := 0; i+1 < len(features); i += 2 {
		media = append(media, map[string]string{"name": features[i], "value": features[i+1]})
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": media}, nil)
}

// screenshot writes the whole page as a PNG.
func (b *browser) screenshot(path string) {
	b.t.Helper()
	var picture struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
