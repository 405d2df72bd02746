package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"collectord/collectord/units"
	"collectord/shipper/audit"
	"collectord/shipper/bucket"
)

// maxNamedDevices is the maximum number of silent devices that a row of the table names.
const maxNamedDevices = 5

// columns returns the column titles of the table of hosts.
func (p *fleetReport) columns() []string {
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
func (p *fleetReport) cells(h *audit.Host) []string {
	state, node := string(h.State), "-"
	if len(h.Wrong) > 1 {
		state = strings.Join(kindNames(h.Wrong), "+")
	}
	if h.Node != "" || h.LogID != "" {
		node = nodeName(truncate(h.Node, 63)).String()
	}
	cells := []string{state, node, orDash(h.LogID[:min(8, len(h.LogID))])}
	heard, oldest := formatAge(h.HeardSeconds), formatAge(h.WaitingSeconds)
	if b := h.Heartbeat; b != nil {
		devices := strconv.Itoa(b.ClientsKnown)
		if n := len(h.SilentDevices); n > 0 {
			devices = fmt.Sprintf("%d of %d silent", n, b.ClientsKnown)
		}
		cells = append(cells, orDash(truncate(b.Version, 20)), heard, strconv.FormatUint(b.Pending, 10), oldest, usagesPerDay(b), devices,
			formatAge(b.SecondsUntilFull), units.Bytes(b.FreeBytes))
	} else {
		cells = append(cells, "-", heard, "-", oldest, "-", "-", "-", "-")
	}
	if p.audited {
		cells = append(cells, orDash(summarizeHoles(h.Found)))
	}
	if p.destinations > 1 {
		cells = append(cells, orDash(h.Destination))
	}
	return cells
}

// usagesPerDay formats the usages of the last day, or of the host's uptime if that is
// shorter.
func usagesPerDay(b *bucket.Heartbeat) string {
	const aDay, almostADay = 24 * 60 * 60, 23 * 60 * 60
	switch {
	case b.DaySeconds <= 0:
		return "-"
	case b.DaySeconds < almostADay:
		return fmt.Sprintf("%d in %s", b.DayUsages, formatAge(&b.DaySeconds))
	}
	return fmt.Sprintf("%.0f", math.Round(float64(b.DayUsages)*aDay/float64(b.DaySeconds)))
}

func kindNames(kinds []audit.Kind) (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// troubleTexts returns what fails on a host, why it has its state, and its silent devices,
// of which it names at most maxDevices.
func troubleTexts(h *audit.Host, maxDevices int) (parts []string) {
	if b := h.Heartbeat; b != nil {
		for _, t := range b.Trouble {
			parts = append(parts, describeTrouble(h, t))
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
		parts = append(parts, "its clock is "+formatAge(&abs)+" "+side+" the storage's, or the heartbeat was copied")
	}
	if n := len(h.SilentDevices); n > 0 {
		parts = append(parts, describeDevices(h.SilentDevices, maxDevices))
	}
	if h.Reason != "" {
		parts = append(parts, h.Reason)
	}
	if h.Key != "" {
		parts = append(parts, h.Key)
	}
	return parts
}

// describeTrouble describes a trouble and how long it has lasted.
func describeTrouble(h *audit.Host, t bucket.Trouble) string {
	text := orDash(t.Name)
	if t.Since != nil && h.HeardSeconds != nil {
		lasted := min(h.Heartbeat.At.Sub(*t.Since), bucket.MaxAge)
		if seconds := int64(lasted/time.Second) + max(0, *h.HeardSeconds); lasted >= 0 {
			text += " for " + formatAge(&seconds)
		}
	}
	if t.Message != "" {
		text += ": " + t.Message
	}
	return text
}

func describeDevices(devices []audit.Device, limit int) string {
	var names []string
	for i, d := range devices {
		if i == limit {
			names = append(names, fmt.Sprintf("%d more", len(devices)-limit))
			break
		}
		names = append(names, fmt.Sprintf("%s (%s)", nodeName(truncate(d.Name, 63)), describeSilence(d)))
	}
	return "silent devices: " + commaList(names)
}

// describeSilence describes how long a device has been silent.
func describeSilence(d audit.Device) string {
	if d.LastSeen == nil {
		return "never seen in " + formatAge(&d.SilentSeconds)
	}
	return "for " + formatAge(&d.SilentSeconds)
}
