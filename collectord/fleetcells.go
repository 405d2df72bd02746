package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"collectord/shipper/audit"
	"collectord/shipper/bucket"
)

// namedDevices is the maximum number of silent devices that a row of the table names.
const namedDevices = 5

// columns returns the column titles of the table of hosts.
func (p *printedFleet) columns() []string {
	names := []string{"STATE", "NODE", "LOG", "VERSION", "HEARD", "PENDING", "OLDEST", "USAGES/DAY", "DEVICES", "FULL IN", "FREE"}
	if p.audited {
		names = append(names, "HOLES")
	}
	if p.destinations > 1 {
		names = append(names, "DESTINATION")
	}
	return append(names, "TROUBLE")
}

// cells returns the cells of a host, without the trouble column. The texts come from
// other hosts and are not trusted.
func (p *printedFleet) cells(h *audit.Host) []string {
	state, node := string(h.State), "-"
	if len(h.Wrong) > 1 {
		state = strings.Join(kindNames(h.Wrong), "+")
	}
	if h.Node != "" || h.LogID != "" {
		node = nodeName(shortened(h.Node, 63)).String()
	}
	cells := []string{state, node, orDash(h.LogID[:min(8, len(h.LogID))])}
	heard, oldest := age(h.HeardSeconds), age(h.WaitingSeconds)
	if b := h.Heartbeat; b != nil {
		devices := strconv.Itoa(b.ClientsKnown)
		if n := len(h.SilentDevices); n > 0 {
			devices = fmt.Sprintf("%d of %d silent", n, b.ClientsKnown)
		}
		cells = append(cells, orDash(shortened(b.Version, 20)), heard, strconv.FormatUint(b.Pending, 10), oldest, usagesADay(b), devices,
			age(b.SecondsUntilFull), size(b.FreeBytes))
	} else {
		cells = append(cells, "-", heard, "-", oldest, "-", "-", "-", "-")
	}
	if p.audited {
		cells = append(cells, orDash(holes(h.Found)))
	}
	if p.destinations > 1 {
		cells = append(cells, orDash(h.Destination))
	}
	return cells
}

// usagesADay formats the usages of the last day, or of the host's uptime if that is
// shorter.
func usagesADay(b *bucket.Heartbeat) string {
	const aDay, nearly = 24 * 60 * 60, 23 * 60 * 60
	switch {
	case b.DaySeconds <= 0:
		return "-"
	case b.DaySeconds < nearly:
		return fmt.Sprintf("%d in %s", b.DayUsages, age(&b.DaySeconds))
	}
	return fmt.Sprintf("%.0f", math.Round(float64(b.DayUsages)*aDay/float64(b.DaySeconds)))
}

func kindNames(kinds []audit.Kind) (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// troubleOf returns what fails on a host, why it has its state, and up to devices of
// its silent devices.
func troubleOf(h *audit.Host, devices int) (parts []string) {
	if b := h.Heartbeat; b != nil {
		for _, t := range b.Trouble {
			parts = append(parts, troubleInWords(h, t))
		}
		if b.Vanished > 0 {
			parts = append(parts, "vanished: "+strconv.FormatUint(b.Vanished, 10))
		}
	}
	if off := h.ClockSeconds; off != nil {
		side, abs := "ahead of", max(*off, -*off)
		if *off < 0 {
			side = "behind"
		}
		parts = append(parts, "its clock is "+age(&abs)+" "+side+" the storage's, or the heartbeat was copied")
	}
	if n := len(h.SilentDevices); n > 0 {
		parts = append(parts, devicesInWords(h.SilentDevices, devices))
	}
	if h.Reason != "" {
		parts = append(parts, h.Reason)
	}
	if h.Key != "" {
		parts = append(parts, h.Key)
	}
	return parts
}

// troubleInWords describes a trouble and how long it has lasted.
func troubleInWords(h *audit.Host, t bucket.Trouble) string {
	text := orDash(t.Name)
	if t.Since != nil && h.HeardSeconds != nil {
		lasted := min(h.Heartbeat.At.Sub(*t.Since), bucket.MaxAge)
		if seconds := int64(lasted/time.Second) + max(0, *h.HeardSeconds); lasted >= 0 {
			text += " for " + age(&seconds)
		}
	}
	if t.Message != "" {
		text += ": " + t.Message
	}
	return text
}

func devicesInWords(devices []audit.Device, most int) string {
	var names []string
	for i, d := range devices {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(devices)-most))
			break
		}
		names = append(names, fmt.Sprintf("%s (%s)", nodeName(shortened(d.Name, 63)), silenceInWords(d)))
	}
	return "silent devices: " + joined(names)
}

// silenceInWords describes how long a device has been silent.
func silenceInWords(d audit.Device) string {
	if d.LastSeen == nil {
		return "never seen, for " + age(&d.SilentSeconds)
	}
	return "for " + age(&d.SilentSeconds)
}
