package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"collectord/shipper/audit"
	"collectord/shipper/bucket"
)

// fleetFlags are the flags of fleet.
type fleetFlags struct {
	audit.FleetOptions
	json, all       bool
	acceptPath      string
	pagePath        string
	deviceSilentFor time.Duration // 0: for ever
}

func fleetCommand() *cobra.Command {
	var o fleetFlags
	c := &cobra.Command{
		Use:   "fleet [destination...]",
		Short: "List the hosts: when each was last heard of, its trouble and silent devices; exits with 2 if there are any",
		Long: `List the hosts by the heartbeats that they write to the bucket, those with trouble first: when each was last heard of,
its version, what it has not shipped, how many usages it takes a day, what fails there, and its silent devices. With
--holes the command also lists the objects, and reports what an audit of them finds.

` + destinationsHelp + `

These are wrong (exit status 2; 1 if there is an error):
  error        one of several destinations can't be read; the others are listed. For a single destination there is no list
  nothing      a destination without anything of collectord: the prefix is wrong, or everything was deleted
  absent       a node of --expect without a heartbeat; with --holes, without a heartbeat and without objects
  silent       the next heartbeat is late by more than --silent-for, or the last one is from the future: the host is
               away, or can't reach the bucket
  cloned       two hosts write one log, perhaps to two destinations: data_dir was copied, such as with a disk image
  clock        the storage received the heartbeat in time, but the time in it differs from the storage's by more than
               --silent-for: the host's clock is wrong, or the object is a copy. Not known for folders
  overdue      records that the host has not shipped for longer than --grace
  trouble      the heartbeat names what fails on the host
  vanished     since the start of the daemon, the storage has permanently lost segments that it had confirmed
  device       a client (the name of a token or certificate) has sent no usage for --device-silent-for to any of the
               hosts of the destination that know it
  damaged      a heartbeat that no host of this version can have written
  unreadable   a heartbeat that the storage lists but does not return
  missing      with --holes; likewise gone, overdue, doubled, forked, conflicting and damaged. These are the findings
               of collectord audit in the objects of the log
These are not wrong:
  unheard      there are objects but no heartbeat: it is not known when the host was last heard of
  retired      all was shipped by collectord ship, to take the host out of service
  replaced     silent, but its node was heard of later with another log in the same destination: data_dir was created
               again, or two hosts have the same name and one of them is silent
  away         silent for more than 30 days, and not in --expect

A heartbeat announces when the next one is due: after shipper.heartbeat (5 min) while usages come, or an hour later than
that while nothing changes. Hosts that are retired or away, and have nothing left to ship, are counted, but listed only
with --all. If a log will never come back, delete its heartbeat, or accept the records that it did not ship: --accept
names a file as for collectord audit (log id, range of seqs, who, and why, one incident a line).

--html also writes the list as a page, for a web server or a browser; the page also shows an error. Reading the
heartbeats takes one request for each host. Only --holes finds missing records, and hosts that write no heartbeats
(shipper.heartbeat: 0). Memory: 1 KiB for each host, at most 20 MiB for all devices, and with --holes 24 bytes for each
object.`,
		Example: `  collectord fleet
  collectord fleet --silent-for 1h --device-silent-for 0 --html /var/www/fleet.html
  collectord fleet --holes --all 's3://usages/*/'
  collectord fleet --expect edge-1,edge-2`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeDestination,
		GroupID:           groupBucket,
		SuggestFor:        []string{"hosts", "nodes", "list"},
	}
	f := c.Flags()
	f.BoolVar(&o.AuditObjects, "holes", false, "also list the objects, and audit each log")
	f.DurationVar(&o.SilentFor, "silent-for", 15*time.Minute, "how long a host may be silent after its next heartbeat was due")
	f.DurationVar(&o.deviceSilentFor, "device-silent-for", 24*time.Hour, "how long a device may be silent; 0: for ever")
	f.DurationVar(&o.Grace, "grace", 24*time.Hour, "how long a record may take to reach the bucket")
	f.StringSliceVar(&o.Expected, "expect", nil, "nodes that must be there, and not silent")
	f.StringVar(&o.acceptPath, "accept", "", "file of incidents that are known")
	f.BoolVar(&o.all, "all", false, "also list hosts that are retired or away")
	f.StringVar(&o.pagePath, "html", "", "also write the list as a page to this file")
	f.BoolVar(&o.json, "json", false, "one JSON object a line, for programs: hosts, then the sum")
	addStorageFlags(f)
	f.Lookup("node").Usage = "logs of this node only"
	c.RunE = o.run
	return c
}

func (o *fleetFlags) run(cmd *cobra.Command, named []string) (err error) {
	listed := false
	defer func() {
		if o.pagePath == "" || listed || err == nil {
			return
		}
		if failed := writeFleetPage(o.pagePath, errorPage(err, time.Now())); failed != nil { // an old page could still look right
			err = errors.Join(err, failed)
		}
	}()
	cfg, err := settings(cmd, bucketKeys...)
	if err != nil {
		return err
	}
	if o.SilentFor <= 0 || o.Grace <= 0 || o.deviceSilentFor < 0 {
		return errors.New("--grace and --silent-for must be more than 0, and --device-silent-for must not be negative")
	}
	if o.DeviceSilentFor = o.deviceSilentFor; o.deviceSilentFor == 0 {
		o.DeviceSilentFor = -1
	}
	if cmd.Flags().Changed("node") {
		o.Node = cfg.Node
	}
	if o.Accepted, err = readAccepted(o.acceptPath); err != nil {
		return err
	}
	stores, err := storesToAudit(cmd.Context(), cfg, named)
	if err != nil {
		return err
	}
	debug.SetGCPercent(auditGCPercent)
	bar := newProgress(cmd.ErrOrStderr())
	bar.what = "heartbeats and objects"
	o.Progress = func(heartbeats, objects int) { bar.set(int64(heartbeats+objects), 0) }
	began := time.Now()
	fleet, err := audit.RunFleet(cmd.Context(), stores, o.FleetOptions)
	bar.clear()
	if err != nil {
		return err
	}
	p := fleetReport{Fleet: fleet, all: o.all, audited: o.AuditObjects, destination: destinationsOf(stores), destinations: len(stores)}
	if o.AuditObjects { // without --holes few findings are known, so unused lines are normal
		p.unused = o.Accepted.Unused()
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	if listed = true; o.pagePath != "" {
		if err := writeFleetPage(o.pagePath, p.page(began)); err != nil {
			return err
		}
	}
	if o.json {
		err = p.json(out, time.Since(began))
	} else {
		err = p.text(out)
	}
	if err == nil {
		err = out.Flush()
	}
	if failed := fleet.Failed(); err == nil && len(failed) > 0 {
		return noVerdictError(len(failed), len(stores), failed[0].Destination, failed[0].Reason)
	}
	if err == nil && fleet.Wrong() {
		return notRightf("the fleet is not right: %s", p.summarizeWrong())
	}
	return err
}

// fleetReport is a fleet with the options of its output.
type fleetReport struct {
	*audit.Fleet
	all, audited bool
	unused       []audit.Acceptance
	destination  string // display name
	destinations int
}

// isHidden reports whether a host is counted but not listed.
func (p *fleetReport) isHidden(h *audit.Host) bool { return h.OutOfService() && !p.all }

// fleetSummary is the last line of fleet --json.
type fleetSummary struct {
	Right        bool               `json:"right"`
	Destination  string             `json:"destination"`
	Destinations int                `json:"destinations"`
	Nodes        int                `json:"nodes"`
	Hosts        int                `json:"hosts"`      // including those not listed
	NotListed    int                `json:"not_listed"` // hosts that only --all lists
	Heartbeats   int                `json:"heartbeats"`
	States       map[audit.Kind]int `json:"states"`  // number of hosts in each state, and with each finding
	Audited      bool               `json:"audited"` // with --holes
	Objects      int                `json:"objects"`
	Unused       []audit.Acceptance `json:"accepts_nothing"`
	Seconds      float64            `json:"seconds"`
}

func (p *fleetReport) json(out io.Writer, took time.Duration) error {
	lines := json.NewEncoder(out)
	hidden := 0
	for _, h := range p.Hosts {
		if p.isHidden(h) {
			hidden++
			continue
		}
		if err := lines.Encode(h); err != nil {
			return err
		}
	}
	return lines.Encode(fleetSummary{
		Right: !p.Wrong(), Destination: p.destination, Destinations: p.destinations, Nodes: p.Nodes(), Hosts: len(p.Hosts), NotListed: hidden,
		Heartbeats: p.Heartbeats, States: p.Count, Audited: p.audited, Objects: p.Objects, Unused: p.unused, Seconds: took.Seconds(),
	})
}

// destinationsOf names the destinations, or the first one and a count if there are
// many.
func destinationsOf(stores []bucket.Store) string {
	const maxShown = 3
	if len(stores) > maxShown {
		return fmt.Sprintf("%s and %d other destinations", stores[0], len(stores)-1)
	}
	return commaList(storeNames(stores))
}
