package main

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"collectord/collectord/admin"
	"collectord/config"
)

// reloader brings a changed configuration into the running daemon: all of it, or
// nothing. A reload has two steps:
//
//	load     file, environment, flags and the files that they name are read and
//	         checked as at a start; a mistake ends the reload
//	commit   each part puts what it can change into effect; it can't fail
//
// Keys that need a restart stay as they are, and are named in the log.
type reloader struct {
	load   func() (*plan, error)
	logger *slog.Logger
	parts  []func(next *plan)

	mu      sync.Mutex     // guards what follows
	running *config.Config // what is in effect
	last    admin.ReloadSnapshot
}

// newReloader makes a reloader for a daemon that starts with a configuration.
func newReloader(c *config.Config, load func() (*plan, error), logger *slog.Logger) *reloader {
	return &reloader{load: load, logger: logger, running: c, last: admin.ReloadSnapshot{OK: true, At: time.Now()}}
}

// register adds a part, which commits. All are registered before the first reload.
func (r *reloader) register(commit func(next *plan)) { r.parts = append(r.parts, commit) }

// config returns what is in effect.
func (r *reloader) config() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// snapshot tells how the last reload ended.
func (r *reloader) snapshot() admin.ReloadSnapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// reload does all of it and tells how it ended.
func (r *reloader) reload() {
	next, changes, err := r.loadAndCommit()
	r.mu.Lock()
	r.last.OK = err == nil
	if err == nil {
		r.running = next
		r.last.At = time.Now()
	}
	r.mu.Unlock()
	if err != nil {
		r.logger.Error("can't reload the configuration: nothing was changed", errorAttr(err))
		return
	}
	changed, restart := []string{}, []string{}
	for _, c := range changes {
		text := fmt.Sprintf("%s: %s -> %s", c.Key, orEmpty(c.From), orEmpty(c.To))
		if c.Live {
			changed = append(changed, text)
		} else {
			restart = append(restart, text)
		}
	}
	if len(restart) > 0 {
		r.logger.Warn("reloaded the configuration, but some of it needs a restart", "changed", changed, "needs_restart", restart)
		return
	}
	r.logger.Info("reloaded the configuration", "changed", changed)
}

func (r *reloader) loadAndCommit() (*config.Config, []config.Change, error) {
	loaded, err := r.load()
	if err != nil {
		return nil, nil, err
	}
	for _, w := range loaded.warnings {
		r.logger.Warn(w)
	}
	next, changes, err := r.config().Reloaded(loaded.cfg)
	if err != nil {
		return nil, nil, err
	}
	for _, commit := range r.parts {
		commit(&plan{cfg: next, who: loaded.who})
	}
	return next, changes, nil
}

// errorAttr lists mistakes one by one, where JSON is written.
func errorAttr(err error) slog.Attr {
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) {
		return slog.Any("error", err)
	}
	all := make([]string, len(mistakes))
	for i, m := range mistakes {
		all[i] = m.String()
	}
	return slog.Any("mistakes", all)
}

func orEmpty(s string) string {
	if s == "" {
		return `""`
	}
	return s
}
