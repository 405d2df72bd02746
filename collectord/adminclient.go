package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"collectord/collectord/admin"
	"collectord/config"
	"collectord/wal"
)

// Limits on a request for the status, because another program may listen at the
// address.
const (
	statusTimeout  = 5 * time.Second
	maxStatusBytes = 4 << 20
)

// askStatus requests the status of the running daemon. It tries the addresses of
// admin.listen one by one, and returns errAdminOff if there are none.
func askStatus(ctx context.Context, cfg *config.Config) (*admin.Status, error) {
	if len(cfg.Admin.Listen) == 0 {
		return nil, errAdminOff
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	// The daemon serves its status to this host only, so local addresses come first.
	addresses := slices.Clone(cfg.Admin.Listen)
	slices.SortStableFunc(addresses, func(a, b config.Address) int { return remoteness(a) - remoteness(b) })
	var all error
	for _, a := range addresses {
		s, err := statusAt(ctx, a)
		switch {
		case err == nil:
			return s, nil
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return nil, explainNoAnswer(cfg.DataDir, all)
}

var errAdminOff = errors.New("admin.listen is off, so the daemon can't be asked: set an address (admin.listen, --admin-listen or COLLECTORD_ADMIN_LISTEN), and restart the daemon")

func remoteness(a config.Address) int {
	if a.Network != "unix" && !dialAddress(a).Addr().IsLoopback() {
		return 1
	}
	return 0
}

// dialAddress returns an address to connect to: the listen address, with a wildcard
// replaced by the loopback address.
func dialAddress(a config.Address) netip.AddrPort {
	switch ip := a.IP.Addr(); {
	case !ip.IsUnspecified():
		return a.IP
	case ip.Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.IP.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), a.IP.Port())
}

func statusAt(ctx context.Context, a config.Address) (*admin.Status, error) {
	network, address := "tcp", dialAddress(a).String()
	host := address
	if a.Network == "unix" {
		network, address, host = "unix", a.Path, "localhost"
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+admin.StatusPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) { // its text repeats the URL
		err = failed.Err
	}
	if err != nil {
		return nil, fmt.Errorf("admin.listen %s: %w", a, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusBytes))
	switch s := new(admin.Status); {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", a, err)
	case resp.StatusCode == http.StatusNotFound && remoteness(a) > 0:
		return nil, fmt.Errorf("admin.listen %s can be reached from other hosts, so it serves no status: add localhost:PORT or unix:/PATH to admin.listen", a)
	case resp.StatusCode != http.StatusOK || json.Unmarshal(body, s) != nil || s.Verdict == "":
		return nil, fmt.Errorf("another program, or another version of collectord, answers at %s: %s", a, resp.Status)
	default:
		return s, nil
	}
}

// explainNoAnswer explains why no status was received: no daemon runs, or one runs and does
// not respond.
func explainNoAnswer(dataDir string, err error) error {
	process, held, lockErr := wal.HolderOf(dataDir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (run this as the daemon's user, or as root)", err)
	case held:
		return fmt.Errorf("a daemon runs (process %s has locked %s) and does not answer (it hangs, or was started with another admin.listen): %w", process, dataDir, err)
	case lockErr != nil && !errors.Is(lockErr, fs.ErrNotExist):
		return fmt.Errorf("no daemon answers, and it is not known whether one runs (%w): %w", lockErr, err)
	}
	return fmt.Errorf("no daemon runs: none has locked %s (start it with systemctl start collectord, or collectord run; journalctl --unit collectord shows why it ended): %w", dataDir, err)
}
