package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"collectord/shipper/bucket"
)

// benchListing audits a bucket that consists only of a listing: a million objects of one
// host or of many. For many hosts it also measures fleet.
func benchListing(rounds int, binary, dir string) error {
	dir = filepath.Join(dir, "listing")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println("\naudit and fleet of a million objects, listed in pages of 1,000 over HTTP; the program that lists them takes a part of the time")
	fmt.Println("command        hosts   wall, s    CPU, s  peak RSS")
	for _, row := range []struct {
		hosts   uint64
		command string
	}{{1, "audit"}, {10, "audit"}, {3000, "audit"}, {3000, "fleet --holes"}, {3000, "fleet"}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := http.Server{Handler: &listingServer{hosts: row.hosts}}
		go func() { _ = server.Serve(ln) }()
		var walls, cpus []float64
		var peak float64
		for range rounds {
			began := time.Now()
			cpu, rss, err := readListing(binary, dir, ln.Addr().String(), row.hosts, row.command)
			if err != nil {
				return err
			}
			walls, cpus, peak = append(walls, time.Since(began).Seconds()), append(cpus, cpu.Seconds()), max(peak, rss)
		}
		_ = server.Close()
		fmt.Printf("%-14s %5d %9.1f %9.1f %5.0f MiB\n", row.command, row.hosts, median(walls), median(cpus), peak)
	}
	return nil
}

// readListing runs a command on the listing and checks its result.
func readListing(binary, dir, addr string, hosts uint64, command string) (cpu time.Duration, rss float64, err error) {
	config, credentials := filepath.Join(dir, "collectord.yaml"), filepath.Join(dir, "credentials")
	settings := fmt.Sprintf("shipper: {destination: 's3://usages', s3: {endpoint: 'http://%s', region: us-east-1, credentials_file: '%s'}}\n", addr, credentials)
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return 0, 0, err
	}
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = bench\naws_secret_access_key = bench-secret\n"), 0o600); err != nil {
		return 0, 0, err
	}
	cmd := exec.Command(binary, append(strings.Fields(command), "--json", "--config", config)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, 0, err
	}
	var sum struct {
		Right      bool `json:"right"`
		Objects    int  `json:"objects"`
		Heartbeats int  `json:"heartbeats"`
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil || !sum.Right || sum.Objects != million && command != "fleet" || sum.Heartbeats != int(hosts) {
		return 0, 0, fmt.Errorf("%s of a listing: %w: %s", command, err, lines[len(lines)-1])
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rss = float64(u.Maxrss) / 1024
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), rss, nil
}

// listingServer lists a million objects of some hosts, and returns their heartbeats.
type listingServer struct{ hosts uint64 }

// key returns the key of object i. The hosts take turns, with ten objects per hour each.
func (s *listingServer) key(i uint64) bucket.Key {
	const perHour = 10
	hour, within := i/(s.hosts*perHour), i%(s.hosts*perHour)
	host, nth := within/perHour, hour*perHour+within%perHour
	return bucket.Key{Node: fmt.Sprintf("edge-%04d", host), LogID: 1 + host, Run: 1 + host, FirstSeq: 1 + 500*nth, LastSeq: 500 + 500*nth, Hour: 400_000 + int64(hour)}
}

func (s *listingServer) heartbeat(host uint64) bucket.Key {
	return bucket.Key{Node: fmt.Sprintf("edge-%04d", host), LogID: 1 + host, Run: 1 + host}
}

func (s *listingServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if !q.Has("list-type") {
		var host uint64
		_, _ = fmt.Sscanf(r.URL.Path, "/usages/_collectord/nodes/edge-%d-", &host)
		o, err := bucket.NewHeartbeat(s.heartbeat(host), bucket.Heartbeat{ConfirmedBelow: 1, At: time.Now()})
		if err == nil {
			w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
			w.Header().Set("Content-Length", strconv.FormatInt(o.Size, 10))
			_, _ = io.Copy(w, io.NewSectionReader(o.Body, 0, o.Size))
		}
		return
	}
	count, key := uint64(0), func(i uint64) string { return s.heartbeat(i).HeartbeatKey() }
	switch q.Get("prefix") {
	case bucket.DataPrefix:
		count, key = million, func(i uint64) string { return s.key(i).String() }
	case bucket.HeartbeatPrefix:
		count = s.hosts
	}
	at, _ := strconv.ParseUint(q.Get("continuation-token"), 10, 64)
	end := min(at+1000, count)
	w.Header().Set("Content-Type", "application/xml")
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>usages</Name><MaxKeys>1000</MaxKeys>`)
	if end < count {
		fmt.Fprintf(&b, "<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>", end)
	}
	for ; at < end; at++ {
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><LastModified>2026-11-23T08:00:00.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>123456</Size><StorageClass>STANDARD</StorageClass></Contents>`, key(at))
	}
	b.WriteString("</ListBucketResult>")
	_, _ = w.Write(b.Bytes())
}
