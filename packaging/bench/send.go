package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"collectord/collectord/send"
)

// runSend runs collectord send and returns its summary. If seconds is 0, args determine
// the duration. The summary is also set if the run failed because some usages were not
// acknowledged or sent.
func runSend(binary string, seconds int, args ...string) (s send.Summary, err error) {
	args = append([]string{"send", "--json"}, args...)
	if seconds > 0 {
		args = append(args, "--duration", fmt.Sprintf("%ds", seconds))
	}
	var stderr bytes.Buffer
	c := exec.Command(binary, args...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		_ = json.Unmarshal(out, &s)
		return s, fmt.Errorf("collectord %s: %w: %s%s", strings.Join(args, " "), err, stderr.Bytes(), out)
	}
	return s, json.Unmarshal(out, &s)
}

// sendLoad returns collectord send as a load of single usages.
func sendLoad(binary string) load {
	return load{"collectord send", func(url string, conns, seconds int) (r result, err error) {
		s, err := runSend(binary, seconds, url, "--connections", strconv.Itoa(conns))
		if err == nil && s.Latency == nil {
			err = errors.New("no request was answered")
		}
		if err != nil {
			return r, err
		}
		return result{s.RequestsPerSecond, s.Latency.P99}, nil
	}}
}

// sendDatagrams sends rate datagrams per second with the given number of usages each; rate 0 means
// as fast as one socket can. The datagrams are prepared, so that the sender needs little
// CPU. A run that sends fewer datagrams than asked for is no error, since the machine may
// be busy.
func sendDatagrams(binary, addr string, usages, rate, seconds int, options ...string) (send.Summary, error) {
	args := append([]string{"udp://" + addr, "--batch", strconv.Itoa(usages), "--prepare", "64"}, options...)
	if rate > 0 {
		args = append(args, "--rate", strconv.Itoa(rate*usages))
	}
	s, err := runSend(binary, seconds, args...)
	if err != nil && s.UsagesUnsent > 0 && s.Datagrams > 0 {
		err = nil
	}
	return s, err
}

// bodiesOf returns the request bodies of a run of collectord send.
func bodiesOf(binary string, args ...string) (bodies [][]byte, err error) {
	var mu sync.Mutex // guards bodies and err
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, readErr := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies, err = append(bodies, body), errors.Join(err, readErr)
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	_, failed := runSend(binary, 0, append([]string{server.URL}, args...)...)
	mu.Lock()
	defer mu.Unlock()
	return bodies, errors.Join(failed, err)
}
