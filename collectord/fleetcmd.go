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

func fleetCommand() *cobra.Command {
	var (
		o               audit.FleetOptions
		asJSON, listAll bool
		acceptPath      string
		pagePath        string
		deviceSilentFor time.Duration
	)
	c := &cobra.Command{
		Use:   "fleet [destination...]",
		Short: "List the hosts: when each was last heard of, its trouble and silent devices; exits with 2 if there are any",
		Long: `List the hosts by the heartbeats that they write to the bucket, those with trouble first: when each was last heard of,
its version, what it has not shipped, how many usages it takes a day, what fails there, and its silent devices. With
--holes the objects are listed, too, and what an audit of them finds missing is named.

` + destinationsHelp + `

wrong (exit status 2, or 1 with an error):
  error        one of several destinations can't be read; the others are listed. If there is only one, nothing is printed
  nothing      a destination in which there is nothing of collectord: a wrong prefix, or all is gone
  absent       a node of --expect of which there is no heartbeat, nor, with --holes, an object
  silent       no heartbeat for --silent-for after the time by which the last one announced it, or one from the future:
               the host is away, or can't reach the bucket
  cloned       two hosts that write one log, also in two destinations: data_dir was copied, as with the image of a disk
  clock        a host that is not silent, by when the storage took its heartbeat, and whose clock is further from the
               storage's than --silent-for (or the object is a copy); folders do not tell
  overdue      records that the host has not shipped for longer than --grace
  trouble      the heartbeat names what fails on the host
  vanished     the storage has lost, for good, segments that it had confirmed since the host was started
  device       no usage of a client (the name of a token or certificate) for --device-silent-for, on any host of the
               destination that knows it
  damaged      a heartbeat that no host of this version can have written
  unreadable   a heartbeat that the storage does not give
  missing      with --holes, and so for gone, overdue, doubled, forked, conflicting and damaged: as collectord audit
               finds it in the objects of the log
distinguished:
  unheard      objects and no heartbeat: when their hosts were last heard of is not known
  retired      all was shipped by collectord ship, to take the host out of service
  replaced     silent, and its node was heard of since, with another log in the same destination: data_dir was made anew,
               or two hosts have one name, of which one is silent
  away         silent for more than 30 days, and not in --expect

A heartbeat announces the next one: within shipper.heartbeat (5 min) while usages come, within an hour and that while
nothing changes. Hosts that are retired or away, and have nothing left to ship, are counted, and listed with --all.
Delete the heartbeat of a log that will never come back, or --accept what it did not ship: log id, range of seqs, who,
and why, a line each, as for collectord audit.

--html writes the list as a page, too, for a web server or a browser; an error is written there as well. Heartbeats alone
are one request for each host. Hosts that write none (shipper.heartbeat: 0) are not known without --holes, and neither
is what is missing. Memory: 1 KiB for a host, 20 MiB at most for all devices, and with --holes 24 bytes for an object.`,
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
	f.BoolVar(&o.Holes, "holes", false, "list the objects, too, and audit what they hold of each log")
	f.DurationVar(&o.SilentFor, "silent-for", 15*time.Minute, "how long a host may be silent after its next heartbeat was due")
	f.DurationVar(&deviceSilentFor, "device-silent-for", 24*time.Hour, "how long a device may be silent; 0: for ever")
	f.DurationVar(&o.Grace, "grace", 24*time.Hour, "how long a record may be on its way")
	f.StringSliceVar(&o.Expected, "expect", nil, "nodes that must be there, and not silent")
	f.StringVar(&acceptPath, "accept", "", "file of incidents that are known")
	f.BoolVar(&listAll, "all", false, "list hosts that are retired or away, too")
	f.StringVar(&pagePath, "html", "", "write the list as a page to this file, too")
	f.BoolVar(&asJSON, "json", false, "one JSON object a line, for programs: hosts, then the sum")
	addStorageFlags(f)
	f.Lookup("node").Usage = "logs of this node only"
	c.RunE = func(cmd *cobra.Command, named []string) (err error) {
		listed := false
		defer func() {
			if pagePath == "" || listed || err == nil {
				return
			}
			if failed := writeFleetPage(pagePath, errorPage(err, time.Now())); failed != nil { // an old page could still look right
				err = errors.Join(err, failed)
			}
		}()
		cfg, err := settings(cmd, bucketKeys...)
		if err != nil {
			return err
		}
		if o.SilentFor <= 0 || o.Grace <= 0 || deviceSilentFor < 0 {
			return errors.New("--grace and --silent-for are more than 0, and --device-silent-for is not less")
		}
		if o.DeviceSilentFor = deviceSilentFor; deviceSilentFor == 0 {
			o.DeviceSilentFor = -1
		}
		if f.Changed("node") {
			o.Node = cfg.Node
		}
		if o.Accepted, err = readAccepted(acceptPath); err != nil {
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
		fleet, err := audit.RunFleet(cmd.Context(), stores, o)
		bar.clear()
		if err != nil {
			return err
		}
		p := fleetReport{Fleet: fleet, all: listAll, audited: o.Holes, destination: destinationsOf(stores), destinations: len(stores)}
		if o.Holes { // without --holes few findings are known, so unused lines are normal
			p.unused = o.Accepted.Unused()
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		if listed = true; pagePath != "" {
			if err := writeFleetPage(pagePath, p.page(began)); err != nil {
				return err
			}
		}
		if asJSON {
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
	return c
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
