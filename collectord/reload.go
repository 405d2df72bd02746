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

// reloader applies a changed configuration to the running daemon: completely, or not at
// all. A reload has two steps:
//
//	load     reads and checks the file, the environment, the flags and the files that
//	         they name, as a start does; a mistake ends the reload
//	commit   each part applies its changes; it can't fail
//
// Keys that need a restart keep their value, and the log names them.
type reloader struct {
	load   func() (*plan, error)
	logger *slog.Logger
	parts  []func(next *plan)

	mu      sync.Mutex     // guards the fields below
	running *config.Config // the configuration in effect
	last    admin.ReloadSnapshot
}

// newReloader returns a reloader for a daemon that started with the configuration c.
func newReloader(c *config.Config, load func() (*plan, error), logger *slog.Logger) *reloader {
	return &reloader{load: load, logger: logger, running: c, last: admin.ReloadSnapshot{OK: true, At: time.Now()}}
}

// register adds a function that applies a part of a reload. Call it before the first
// reload only.
func (r *reloader) register(commit func(next *plan)) { r.parts = append(r.parts, commit) }

// config returns the configuration in effect.
func (r *reloader) config() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// snapshot returns the result of the last reload.
func (r *reloader) snapshot() admin.ReloadSnapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// reload runs a complete reload and logs its result.
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
		commit(&plan{cfg: next, policy: loaded.policy})
	}
	return next, changes, nil
}

// errorAttr returns an error as a log attribute, with each mistake of a configuration
// as a separate element.
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
