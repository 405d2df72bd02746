//go:build torture

package main

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var updateScreenshot = flag.Duration("update-screenshot", 0, "make docs/status-page.png with a daemon that runs this long")

// TestChromiumPicturesTheStatusPage makes the picture of docs/status-page.md with
// -update-screenshot. A daemon ships usages of clients to a real storage, which hangs once
// for a while.
func TestChromiumPicturesTheStatusPage(t *testing.T) {
	const picture, maxBytes = "../docs/status-page.png", 150 << 10
	if *updateScreenshot == 0 {
		info, err := os.Stat(picture)
		if err != nil || info.Size() > maxBytes {
			t.Errorf("%s is missing or too large: run this test with -update-screenshot 1h (%v)", picture, err)
		}
		return
	}
	skipMissing(t, notInstalled("chromium"))
	dir := t.TempDir()
	settings, storage := startMinIOToKill(t, dir)
	config, port, admin := configure(t, dir, "wal: {max_bytes: 128MiB, segment_size: 2MiB, seal_after: 50s, seal_small_after: 50s}\nshipper:\n  stall_timeout: 10s\n  "+
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
		d.postRejected("no JSON", http.StatusBadRequest)
		rate := fmt.Sprint(int(150 + 60*math.Sin(40*share) + 30*math.Sin(170*share)))
		for _, target := range []string{fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("udp://127.0.0.1:%d", port)} {
			_ = command(t, "send", "--rate", rate, "--duration", "7s", target).Run() // slower on a busy machine
		}
	}
	b := startBrowser(t)
	b.emulate(1100, 1, "prefers-color-scheme", "light")
	b.visit(statusPageURL(admin))
	b.checkVerdict("Fine", nil)
	b.screenshot(picture)
	paletted(t, picture)
	if info, err := os.Stat(picture); err != nil || info.Size() > maxBytes {
		t.Errorf("the picture is too large (%v)", err)
	}
}

// paletted reduces a picture to a third of its size. Of nearly equal colors it keeps the
// most frequent one.
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
		if len(colors) == 0 || len(colors) < 256 && colorDistance(c, colors.Convert(c)) > 8 {
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
	distance := func(x, y uint32) int { return int(max(x, y)-min(x, y)) >> 8 }
	return max(distance(r, r2), distance(g, g2), distance(blue, blue2))
}
