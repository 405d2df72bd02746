package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"collectord/collectord/send"
	"collectord/wal"
)

// perDatagram is how many usages fit into a datagram of one Ethernet frame.
const perDatagram = 14

// benchUDP measures at which rate and where datagrams are lost. It measures how many usages
// per second arrive with several usages per datagram, and compares the CPU time of a
// datagram with a loop that only receives.
func benchUDP(rounds, seconds int, binary, dir string) error {
	dir = filepath.Join(dir, "udp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d, err := startDaemon(binary, dir, "wal: {max_bytes: 32GiB, min_free: 1GiB, when_full: drop_oldest}\nshutdown: {grace: 0s}\n")
	if err != nil {
		return err
	}
	defer d.stop()

	fmt.Println("\nUDP, one sender, one usage of 98 bytes a datagram; all counts are of datagrams")
	fmt.Println("rate asked     sent/s       sent   kernel drops       read   refused by us  in the log      lost      GC")
	for _, rate := range []int{10_000, 20_000, 50_000, 100_000, 150_000, 200_000} {
		if err := d.lossCurveRow(strconv.Itoa(rate), rate, seconds); err != nil {
			return err
		}
	}
	for range rounds {
		if err := d.lossCurveRow("full speed", 0, seconds); err != nil {
			return err
		}
	}

	fmt.Printf("\nUDP, one sender, %d usages a datagram; kernel drops count datagrams, all other columns count usages\n", perDatagram)
	fmt.Println(" rate asked   usages sent/s   in the log/s      lost      GC   the log alone    ratio   kernel drops   refused by us")
	for _, rate := range []int{250_000, 500_000, 1_000_000, 2_000_000, 0} {
		for range rounds {
			alone, err := appendBatches(dir, seconds, wal.Options{MaxBytes: 64 << 30})
			if err != nil {
				return err
			}
			f, err := d.flood(perDatagram, rate/perDatagram, seconds)
			if err != nil {
				return err
			}
			name := "full speed"
			if rate > 0 {
				name = strconv.Itoa(rate)
			}
			sent := f.sent * perDatagram
			fmt.Printf("%11s %15.0f %14.0f %8.2f%% %5.1f %% %15.0f %8.2f %14.0f   %s\n",
				name, sent/f.took, f.appended/f.took, 100*(1-f.appended/sent), f.gc, alone, f.appended/f.took/alone, f.kernel, f.refused())
			if rate > 0 {
				break
			}
		}
	}

	fmt.Println("\ncompared with a bare recvmmsg loop, one sender at full speed, one usage a datagram; CPU of the receiving process")
	if err := d.benchCPU("64 messages a system call", rounds, seconds, 0); err != nil {
		return err
	}
	if err := d.benchCPU("messages that hold 64 datagrams, 500,000 datagrams a second", rounds, seconds, 500_000, "--offload"); err != nil {
		return err
	}
	fmt.Println("the daemon reads such a message as one. For the bare loop, the sender's kernel cuts it, which makes the sender slower:")
	if err := d.benchCPU("messages that hold 64 datagrams", rounds, seconds, 0, "--offload"); err != nil {
		return err
	}
	rss, err := d.rss()
	if err != nil {
		return err
	}
	fmt.Printf("\nRSS of the daemon, highest over all rows: %.0f MiB\n", rss)
	return nil
}

// lossCurveRow measures and prints one row of the loss curve.
func (d *daemon) lossCurveRow(name string, rate, seconds int) error {
	f, err := d.flood(1, rate, seconds)
	if err != nil {
		return err
	}
	fmt.Printf("%10s %10.0f %10.0f %14.0f %10.0f %15s %11.0f %8.3f%% %5.1f %%\n",
		name, f.sent/f.took, f.sent, f.kernel, f.read, f.refused(), f.appended, 100*(1-f.appended/f.sent), f.gc)
	return nil
}

// benchCPU compares the daemon with the bare receiver, in turn.
func (d *daemon) benchCPU(sender string, rounds, seconds, rate int, options ...string) error {
	fmt.Println(sender)
	fmt.Println("        sent/s   to theirs      GC   ns/datagram     theirs   ratio        lost   by theirs   points more")
	var rates, theirRates, gcs, ours, theirs, lost, theirLost []float64
	var shares, more ratios
	for i := range rounds {
		before, err := d.cpu()
		if err != nil {
			return err
		}
		f, err := d.flood(1, rate, seconds, options...)
		if err != nil {
			return err
		}
		after, err := d.cpu()
		if err != nil {
			return err
		}
		b, err := startReceiver("-" + bareFlag)
		if err != nil {
			return err
		}
		summary, err := sendDatagrams(d.cmd.Path, b.addr, 1, rate, seconds, options...)
		if err != nil {
			return err
		}
		received, ns, err := b.stop()
		if err != nil {
			return err
		}
		ours, theirs = append(ours, (after-before)*1e9/f.read), append(theirs, ns/received)
		lost, theirLost = append(lost, 100*(1-f.appended/f.sent)), append(theirLost, 100*(1-received/float64(summary.Datagrams)))
		rates, theirRates, gcs = append(rates, f.sent/f.took), append(theirRates, float64(summary.Datagrams)/summary.Seconds), append(gcs, f.gc)
		shares, more = append(shares, ours[i]/theirs[i]), append(more, lost[i]-theirLost[i])
		fmt.Printf("%14.0f %11.0f %5.1f %% %13.0f %10.0f   %4.2f   %8.3f %% %9.3f %%   %.2f\n", rates[i], theirRates[i], gcs[i], ours[i], theirs[i], shares[i], lost[i], theirLost[i], more[i])
	}
	fmt.Printf("median %7.0f %11.0f %5.1f %% %13.0f %10.0f   %4.2f   %8.3f %% %9.3f %%   %.2f\n",
		median(rates), median(theirRates), median(gcs), median(ours), median(theirs), median(shares), median(lost), median(theirLost), median(more))
	fmt.Printf("ratio of CPU: %s, at most 0.90; additional loss in percentage points: %s, at most 0.50\n", shares, more)
	return nil
}

// flow counts what happened to the datagrams of a run. flood returns an error if the
// counts do not add up.
type flow struct {
	sent, took float64 // datagrams, seconds
	kernel     float64 // datagrams that the kernel dropped
	read       float64 // datagrams
	rejected   float64 // usages, for the reasons in why
	dropped    float64 // usages, for the reasons in why
	appended   float64 // usages
	gc         float64 // share of the CPU, in percent
	reasons    []string
}

// refused lists the reasons and counts of rejected and dropped usages.
func (f *flow) refused() string {
	if len(f.reasons) == 0 {
		return "0"
	}
	return strings.Join(f.reasons, " ")
}

// settledScrapes is the number of scrapes without a datagram read, after which none is left.
const settledScrapes = 10

// flood sends datagrams, waits until all are accounted for, and returns the totals. If the
// datagrams come in messages, the daemon only estimates how many the kernel dropped: then
// those that were not read count as dropped.
func (d *daemon) flood(usages, rate, seconds int, options ...string) (f flow, err error) {
	before, err := d.series()
	if err != nil {
		return f, err
	}
	var summary send.Summary
	gc, err := d.gcDuring(seconds, func() (err error) {
		summary, err = sendDatagrams(d.cmd.Path, d.addr, usages, rate, seconds, options...)
		return err
	})
	if err != nil {
		return f, err
	}
	var mismatch string
	lastRead, scrapes := -1.0, 0
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		after, err := d.series()
		if err != nil {
			return f, err
		}
		f = flow{sent: float64(summary.Datagrams), took: summary.Seconds, gc: gc}
		delta := func(series string) float64 { return after[series] - before[series] }
		f.kernel = delta("collectord_udp_kernel_drops_total")
		f.read = delta("collectord_udp_datagrams_total")
		f.appended = delta(`collectord_usages_appended_total{source="udp"}`)
		for series := range after {
			for name, sum := range map[string]*float64{"rejected": &f.rejected, "dropped": &f.dropped} {
				rest, ok := strings.CutPrefix(series, "collectord_usages_"+name+`_total{reason="`)
				if v := delta(series); ok && strings.HasSuffix(rest, `source="udp"}`) && v > 0 {
					*sum += v
					reason, _, _ := strings.Cut(rest, `"`)
					f.reasons = append(f.reasons, fmt.Sprintf("%s: %.0f", reason, v))
				}
			}
		}
		if scrapes++; f.read != lastRead {
			lastRead, scrapes = f.read, 0
		}
		if slices.Contains(options, "--offload") && scrapes >= settledScrapes {
			f.kernel = f.sent - f.read
		}
		mismatch = ""
		if f.sent != f.kernel+f.read {
			mismatch = fmt.Sprintf("%.0f datagrams sent, %.0f dropped by the kernel, %.0f read", f.sent, f.kernel, f.read)
		} else if f.read*float64(usages) != f.rejected+f.dropped+f.appended {
			mismatch = fmt.Sprintf("%.0f datagrams of %d usages read, %.0f usages rejected, %.0f dropped, %.0f in the log", f.read, usages, f.rejected, f.dropped, f.appended)
		}
		if mismatch == "" {
			return f, nil
		}
		if time.Now().After(deadline) {
			return f, fmt.Errorf("the counts do not add up: %s", mismatch)
		}
	}
}

// series returns the metrics of one scrape.
func (d *daemon) series() (map[string]float64, error) {
	resp, err := http.Get(d.admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			if all[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// cpu returns the CPU time of the daemon's threads, in seconds. It is the sum of utime and
// stime (proc(5)), which the kernel counts in ticks of 10 ms.
func (d *daemon) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", d.cmd.Process.Pid)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, err
}
