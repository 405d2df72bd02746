//go:build torture

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	updateScreenshot = flag.Duration("update-screenshot", 0, "make docs/status-page.png of a daemon that has run for so long")
	pagePictures     = flag.String("page-pictures", "", "write what Chromium shows of the status page to this directory")
)

func pageOf(admin int) string { return fmt.Sprintf("http://127.0.0.1:%d/", admin) }

// scene is a state of the daemon, and what its page has to say of it.
type scene struct {
	name    string
	verdict string
	says    []string                        // texts of the page
	start   func(t *testing.T) (url string) // returns once the daemon is in the state
}

// aspects are how the page is looked at.
var aspects = []struct {
	name     string
	width    int
	features []string
}{
	{"light", 1200, []string{"prefers-color-scheme", "light"}},
	{"dark", 1200, []string{"prefers-color-scheme", "dark"}},
	{"phone", 360, []string{"prefers-color-scheme", "light"}},
	{"dark phone", 360, []string{"prefers-color-scheme", "dark"}},
	{"forced colors", 1200, []string{"forced-colors", "active", "prefers-color-scheme", "light"}},
}

// TestChromiumShowsTheStatusPage looks at the page of real daemons with a real browser: it
// says what is wrong, fits a phone, can be read without its colours and with a screen
// reader, asks nobody else for anything, and has no error.
func TestChromiumShowsTheStatusPage(t *testing.T) {
	goWithout(t, notInstalled("chromium"))
	b := startBrowser(t)
	for _, s := range []scene{
		{"fine", "Fine", []string{"Last success", "Confirmed 1 object,", "shipped confirmed by the storage 300", "rejected: invalid_json 1 0"}, startFine},
		{"outage", "Warning|Failing", []string{"can't ship to s3://usages/prod", "Fails for", "connection refused", "Next attempt", "300 usages"}, startOutage},
		{"full", "Failing", []string{"Ready for traffic no", "rejected: log_full", "Forecast"}, startFull},
		{"starting", "Starting", []string{"the daemon is starting"}, startStarting},
	} {
		t.Run(s.name, func(t *testing.T) {
			if s.name == "starting" {
				needs(t, "strace")
			}
			b.t = t
			url := s.start(t)
			for _, a := range aspects {
				b.look(a.width, 1, a.features...)
				b.visit(url)
				b.isAnswered(s.verdict, s.says)
				b.isQuiet(url)
				b.fits(a.width)
				b.isReadable()
				if *pagePictures != "" {
					b.screenshot(filepath.Join(*pagePictures, strings.ReplaceAll(s.name+" "+a.name, " ", "-")+".png"))
				}
			}
			b.isForScreenReaders(s.name != "starting")
			b.t = t
		})
	}
}

// startFine is a daemon whose usages are in a storage, and whose plots have begun.
func startFine(t *testing.T) (url string) {
	d, _ := startWithStorage(t)
	until(t, "something is drawn", func() bool { return !strings.Contains(d.ask("/"), "Nothing is known yet") })
	return pageOf(d.admin)
}

func startWithStorage(t *testing.T) (d *daemon, storage *os.Process) {
	t.Helper()
	dir := t.TempDir()
	settings, storage := startMinIOToKill(t, dir)
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshipper:\n  retry_min: 100ms\n  "+settings)
	d = start(t, config, port, admin)
	d.post(&acknowledged{ids: map[int]string{}}, 0, 300, 10, false)
	d.rejected("no JSON", http.StatusBadRequest)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until(t, "all is shipped", func() bool { return d.metrics()["collectord_usages_pending"] == 0 })
	return d, storage
}

// rejected posts something that is answered a status.
func (d *daemon) rejected(body string, status int) {
	d.t.Helper()
	resp, err := http.Post(d.url(), "application/json", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != status {
		d.t.Fatalf("answered %s, want %d", resp.Status, status)
	}
}

// startOutage is one whose storage was killed.
func startOutage(t *testing.T) (url string) {
	d, storage := startWithStorage(t)
	if err := storage.Kill(); err != nil {
		t.Fatal(err)
	}
	d.post(&acknowledged{ids: map[int]string{}}, 300, 600, 10, false)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until(t, "shipping fails", func() bool { return d.metrics()[`collectord_shipper_failures_total{kind="network"}`] >= 1 })
	return pageOf(d.admin)
}

// startFull is one whose log is full, since no storage listens.
func startFull(t *testing.T) (url string) {
	dir := t.TempDir()
	nowhere := freePorts(t, 1)[0]
	credentials := filepath.Join(dir, "credentials")
	write(t, credentials, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, max_bytes: 4MiB, min_free: 0}\n"+
		fmt.Sprintf("shipper:\n  destination: s3://usages/prod\n  s3: {endpoint: 'http://127.0.0.1:%d', credentials_file: %s, region: us-east-1}\n", nowhere, credentials))
	d := start(t, config, port, admin)
	body := `{"x":"` + strings.Repeat("y", 200<<10) + `"}`
	until(t, "usages are rejected", func() bool {
		resp, err := http.Post(d.url(), "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	return pageOf(admin)
}

// startStarting is one whose disk hangs at the start.
func startStarting(t *testing.T) (url string) {
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 1ms, grace: 0s}\n")
	start(t, config, port, admin).stop()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, port: port, admin: admin, cmd: exec.Command("strace", "-f", "-qq", "-o", filepath.Join(dir, "trace"),
		"-P", filepath.Join(dir, "data", "wal"), "-e", "trace=openat", "-e", fmt.Sprintf("inject=openat:delay_enter=%d", testLimit.Microseconds()),
		path, "run", "--config", config)}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.begin(func() {})
	t.Cleanup(func() { // strace alone would leave the daemon behind
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-d.gone
		until(t, "the daemon is gone", func() bool { return errors.Is(syscall.Kill(-d.cmd.Process.Pid, 0), syscall.ESRCH) })
	})
	until(t, "it serves its page", func() bool {
		resp, err := http.Get(pageOf(admin))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
	return pageOf(admin)
}

// isAnswered compares what the page says.
func (b *browser) isAnswered(verdict string, says []string) {
	b.t.Helper()
	var title, heading, text string
	b.eval("document.title", &title)
	b.eval("document.querySelector('h1').innerText", &heading)
	b.eval("document.body.innerText.replace(/\\s+/g, ' ')", &text)
	if !regexp.MustCompile("^("+verdict+")$").MatchString(heading) || !strings.HasPrefix(title, heading+" – edge-1") {
		b.t.Errorf("the verdict is %q and the title %q, want %s: %s", heading, title, verdict, text)
	}
	for _, want := range says {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			b.t.Errorf("the page does not say %q: %s", want, text)
		}
	}
}

// isQuiet finds no error of any kind, and no request but that for the page.
func (b *browser) isQuiet(url string) {
	b.t.Helper()
	for _, kind := range []string{"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed", "Audits.issueAdded"} {
		for _, entry := range b.seen(kind) {
			b.t.Errorf("%s: %s", kind, entry)
		}
	}
	for _, params := range b.seen("Network.requestWillBeSent") {
		var sent struct{ Request struct{ URL string } }
		if err := json.Unmarshal(params, &sent); err != nil || sent.Request.URL != url {
			b.t.Errorf("it asks for %s (%v)", sent.Request.URL, err)
		}
	}
	if n := len(b.seen("Network.requestWillBeSent")); n == 0 {
		b.t.Error("no request was seen")
	}
}

// fits finds nothing that is wider than the window or than its box.
func (b *browser) fits(width int) {
	b.t.Helper()
	var wide []string
	b.eval(`[...document.querySelectorAll("*")].filter(e => e.scrollWidth > Math.max(e.clientWidth, 1) + 1 && e.clientWidth > 0 && getComputedStyle(e).display != "inline"
		|| e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 100))`, &wide)
	if len(wide) > 0 {
		b.t.Errorf("at %d pixels these are too wide: %q", width, wide)
	}
	var inner, all int
	b.eval("innerWidth", &inner)
	b.eval("document.documentElement.scrollWidth", &all)
	if inner != width || all > width {
		b.t.Errorf("the page is %d pixels wide in a window of %d, want %d", all, inner, width)
	}
}

// contrasts are the texts and lines whose contrast with what is behind them is below that
// of WCAG 2.2, 1.4.3 and 1.4.11 (AA).
const contrasts = `(() => {
	const rgba = text => { const n = text.match(/[\d.]+/g).map(Number); return text.startsWith("color(") ? [n[0]*255, n[1]*255, n[2]*255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1] }
	const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3])).concat(1)
	const behind = e => { const all = []; for (; e; e = e.parentElement) all.unshift(rgba(getComputedStyle(e).backgroundColor)); return all.reduce((below, top) => over(top, below), [255, 255, 255, 1]) }
	const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b }
	const contrast = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + .05) / (Math.min(x, y) + .05) }
	const bad = []
	const check = (e, color, least) => { const below = behind(e), is = contrast(over(rgba(color), below), below); if (!(is >= least)) bad.push(is.toFixed(2) + ": " + e.outerHTML.slice(0, 100)) }
	for (const e of document.body.querySelectorAll("*")) {
		const style = getComputedStyle(e)
		if (e.matches(".line, .shape")) check(e, style.stroke, 3)
		else if (e.matches(".bars, .solid, .ink, .alarm")) check(e, style.fill, 3)
		else if (!e.closest("svg") && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) check(e, style.color, 4.5)
	}
	return bad
})()`

// isReadable finds enough contrast, and lines that differ by more than their colour.
func (b *browser) isReadable() {
	b.t.Helper()
	var bad []string
	b.eval(contrasts, &bad)
	if len(bad) > 0 {
		b.t.Errorf("the contrast is too low: %q", bad)
	}
	var same int
	b.eval(`[...document.querySelectorAll(".canvas svg")].filter(s => { const d = [...s.querySelectorAll(".line")].map(l => getComputedStyle(l).strokeDasharray); return new Set(d).size < d.length }).length`, &same)
	if same > 0 {
		b.t.Errorf("in %d plots two lines differ by their colour alone", same)
	}
}

// isForScreenReaders looks at the accessibility tree: headings, landmarks, tables with
// headers, and a text for every picture.
func (b *browser) isForScreenReaders(figures bool) {
	b.t.Helper()
	type value struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	roles := map[string]int{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, _ := n.Role.Value.(string)
		name, _ := n.Name.Value.(string)
		role = strings.ToLower(role)
		roles[role]++
		if slices.Contains([]string{"image", "img", "svgroot", "heading", "link", "columnheader", "rowheader", "region"}, role) && strings.TrimSpace(name) == "" {
			b.t.Errorf("a %s has no name", role)
		}
	}
	wanted := map[string]int{"heading": 1, "banner": 1, "main": 1, "contentinfo": 1, "navigation": 1, "region": 1}
	if figures {
		wanted = map[string]int{"heading": 11, "banner": 1, "main": 1, "contentinfo": 1, "navigation": 1, "region": 7, "table": 3, "columnheader": 6, "rowheader": 15, "image": 4}
	}
	for role, least := range wanted {
		if roles[role] < least {
			b.t.Errorf("it has %d of %s, want %d: %v", roles[role], role, least, roles)
		}
	}
}

// TestChromiumRefreshesTheStatusPage waits for the page to load itself again, unless paused.
func TestChromiumRefreshesTheStatusPage(t *testing.T) {
	goWithout(t, notInstalled("chromium"))
	config, port, admin := configure(t, t.TempDir(), "")
	start(t, config, port, admin)
	b := startBrowser(t)
	b.visit(pageOf(admin))
	b.loads(3)
	b.isQuiet(pageOf(admin))
	resp, err := http.Get(pageOf(admin) + "?paused")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if refresh := resp.Header.Get("Refresh"); refresh != "" {
		t.Errorf("a paused page has Refresh: %s", refresh)
	}
}

// TestChromiumPicturesTheStatusPage makes the picture of docs/status-page.md, with
// -update-screenshot, of a daemon that ships what clients send it to a real storage. Once,
// that storage hangs for a while.
func TestChromiumPicturesTheStatusPage(t *testing.T) {
	const picture, most = "../docs/status-page.png", 150 << 10
	if *updateScreenshot == 0 {
		info, err := os.Stat(picture)
		if err != nil || info.Size() > most {
			t.Errorf("%s is missing or too large: run this test with -update-screenshot 1h (%v)", picture, err)
		}
		return
	}
	goWithout(t, notInstalled("chromium"))
	dir := t.TempDir()
	settings, storage := startMinIOToKill(t, dir)
	config, port, admin := configure(t, dir, "wal: {max_bytes: 64MiB, segment_size: 2MiB, seal_after: 50s, seal_small_after: 50s}\nshipper:\n  stall_timeout: 10s\n  "+
		strings.Replace(settings, "keep: 200ms", "keep: 5m", 1))
	d := start(t, config, port, admin)
	began := time.Now()
	for share := 0.0; share < 1; share = time.Since(began).Seconds() / updateScreenshot.Seconds() {
		signal := syscall.SIGCONT
		if share > 0.35 && share < 0.5 {
			signal = syscall.SIGSTOP
		}
		if err := storage.Signal(signal); err != nil {
			t.Fatal(err)
		}
		d.rejected("no JSON", http.StatusBadRequest)
		rate := fmt.Sprint(int(150 + 60*math.Sin(40*share) + 30*math.Sin(170*share)))
		for _, target := range []string{fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("udp://127.0.0.1:%d", port)} {
			_ = command(t, "send", "--rate", rate, "--duration", "7s", target).Run() // slower where the machine is busy
		}
	}
	b := startBrowser(t)
	b.look(1100, 1, "prefers-color-scheme", "light")
	b.visit(pageOf(admin))
	b.isAnswered("Fine", nil)
	b.screenshot(picture)
	paletted(t, picture)
	if info, err := os.Stat(picture); err != nil || info.Size() > most {
		t.Errorf("the picture is too large (%v)", err)
	}
}

// paletted makes a picture a third of its size: of colors that are nearly the same it keeps
// the one that it has most of.
func paletted(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	from, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	counts, bounds := map[color.Color]int{}, from.Bounds()
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			counts[from.At(x, y)]++
		}
	}
	var colors color.Palette
	for _, c := range slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] }) {
		if len(colors) == 0 || len(colors) < 256 && colorDistance(c, colors.Convert(c)) > 20 {
			colors = append(colors, c)
		}
	}
	to := image.NewPaletted(bounds, colors)
	draw.Draw(to, bounds, from, image.Point{}, draw.Src)
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to)
	if err == nil {
		err = os.WriteFile(path, out.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func colorDistance(a, b color.Color) int {
	r, g, blue, _ := a.RGBA()
	r2, g2, blue2, _ := b.RGBA()
	apart := func(x, y uint32) int { return int(max(x, y)-min(x, y)) >> 8 }
	return max(apart(r, r2), apart(g, g2), apart(blue, blue2))
}
