package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/doctor"
	"collectord/collectord/units"
)

// configuration checks the settings and describes their effect.
func (x *checkRun) configuration() (all []doctor.Check) {
	for _, m := range x.draft.Mistakes {
		if x.outsideService && isCredential(m, namedFiles(x.draft.Config)) {
			all = append(all, doctor.Skip("config."+m.Key, m.Origin+" is a credential, which only the service sees"))
			continue
		}
		all = append(all, doctor.Fail("config."+m.Key, m.Origin+": "+m.Reason, "correct it: a start and a reload refuse this configuration (collectord config check)"))
	}
	if len(all) == 0 {
		all = append(all, doctor.Fine("config.valid", x.sources()))
	}
	reportedElsewhere := slices.Clone(x.draft.stopped) // warnings that the groups data_dir and files report
	if x.draft.Config != nil {
		for _, f := range namedFiles(x.draft.Config) {
			reportedElsewhere = append(reportedElsewhere, f.warning(f.accessProblem()))
		}
		reportedElsewhere = append(reportedElsewhere, x.expiryWarnings()...)
	}
	for _, w := range x.draft.Warnings {
		if !slices.Contains(reportedElsewhere, w) {
			all = append(all, doctor.Warn("config.warning", w, "correct it unless it is intended: a start accepts it"))
		}
	}
	if x.draft.Config != nil && len(x.draft.Mistakes) == 0 {
		all = append(all, x.effects()...)
	}
	return all
}

// sources describes where the settings come from.
func (x *checkRun) sources() string {
	file := x.src.File()
	if file == "" {
		file = "no file"
	}
	variables := 0
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "COLLECTORD_") {
			variables++
		}
	}
	return fmt.Sprintf("valid: %s, %s of the environment (collectord config print)", file, plural(variables, "variable"))
}

// effects describes the effect of the configuration in words.
func (x *checkRun) effects() []doctor.Check {
	cfg := x.draft.Config
	http, udp := describeClients(cfg, &x.policy)
	orOff := func(words, key string) string {
		if words == "" {
			return "no client can send: " + key + " is off"
		}
		return words
	}
	to := "usages go to " + cfg.Shipper.Destination
	if isFolder(cfg) {
		to += ", a folder of this host: collectord deletes nothing there"
	}
	full := "then HTTP is answered 503, and datagrams are dropped"
	if cfg.WAL.WhenFull == "drop_oldest" {
		full = "then the oldest usages are deleted"
	}
	durable := "what HTTP has answered with 201 is on the disk (wal.sync: always)"
	if cfg.WAL.Sync == "interval" {
		durable = fmt.Sprintf("a power loss loses the usages that were answered in the last %v (wal.sync: interval)", cfg.WAL.SyncInterval)
	}
	return []doctor.Check{
		doctor.Fine("config.http_clients", orOff(http, "http.listen")),
		doctor.Fine("config.udp_clients", orOff(udp, "udp.listen")),
		doctor.Fine("config.destination", to),
		doctor.Fine("config.waiting", fmt.Sprintf("while the destination is unavailable, up to %s of usages wait in %s (wal.max_bytes); %s (wal.when_full)", units.Bytes(cfg.WAL.MaxBytes), cfg.DataDir, full)),
		doctor.Fine("config.durability", durable),
	}
}

// files checks the access to the files that the configuration names, and when
// certificates expire.
func (x *checkRun) files() (all []doctor.Check) {
	for _, f := range namedFiles(x.draft.Config) {
		name := "files." + f.key
		why, advice := f.accessProblem()
		switch {
		case !x.draft.Valid(f.key):
			all = append(all, doctor.Skip(name, "its key has a mistake (config."+f.key+")"))
		case why != "":
			all = append(all, doctor.Warn(name, f.path+" "+why, advice))
		default:
			all = append(all, doctor.Fine(name, f.path+" can be read, and its mode is right"))
		}
	}
	if x.policy.TLS != nil {
		all = append(all, expiryCheck("files.certificate", "http.tls.cert "+x.draft.Config.HTTP.TLS.Cert, x.policy.TLS.Expires(), time.Now()))
	}
	for _, f := range []struct{ name, path string }{
		{"files.client_authorities", x.draft.Config.HTTP.TLS.ClientCA}, {"files.storage_authorities", x.draft.Config.Shipper.S3.CAFile},
	} {
		if expiries, err := auth.Expiries(f.path); f.path != "" && err == nil {
			all = append(all, authoritiesCheck(f.name, f.path, expiries, time.Now()))
		}
	}
	if len(all) == 0 {
		all = append(all, doctor.Fine("files.none", "the configuration names no other files"))
	}
	return all
}

func (x *checkRun) expiryWarnings() []string {
	if x.policy.TLS == nil {
		return nil
	}
	return expiryWarning(x.draft.Config.HTTP.TLS.Cert, x.policy.TLS.Expires(), time.Now())
}

func expiryCheck(name, what string, expires, now time.Time) doctor.Check {
	day := expires.UTC().Format(time.DateTime)
	switch left := expires.Sub(now); {
	case left <= 0:
		return doctor.Fail(name, what+" expired on "+day, "replace it, and reload (systemctl reload collectord)")
	case left <= expiresSoon:
		return doctor.Warn(name, fmt.Sprintf("%s expires on %s, in %d days", what, day, int(left.Hours()/24)), "replace it, and reload (systemctl reload collectord)")
	}
	return doctor.Fine(name, what+" is valid until "+day)
}

// authoritiesCheck checks a file of certificate authorities, some of which may have
// expired.
func authoritiesCheck(name, path string, expiries []time.Time, now time.Time) doctor.Check {
	first, last := slices.MinFunc(expiries, time.Time.Compare), slices.MaxFunc(expiries, time.Time.Compare)
	if len(expiries) == 1 || !last.After(now.Add(expiresSoon)) || first.After(now.Add(expiresSoon)) {
		return expiryCheck(name, path, last, now)
	}
	return doctor.Warn(name, fmt.Sprintf("%s: one of its %d authorities expires, or expired, on %s", path, len(expiries), first.UTC().Format(time.DateTime)), "remove it, or replace it")
}
