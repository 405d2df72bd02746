package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// daemon is the collectord process that is measured.
type daemon struct {
	cmd       *exec.Cmd
	url, addr string
	admin     string
	dir       string
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// startDaemon starts a daemon with its data in dir, additional settings as YAML, and
// additional environment variables. It returns when the daemon is ready.
func startDaemon(binary, dir, more string, environment ...string) (*daemon, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "collectord.yaml")
	text := fmt.Sprintf("data_dir: %s/data\nhttp: {listen: '127.0.0.1:%d'}\nudp: {listen: '127.0.0.1:%d'}\nadmin: {listen: '127.0.0.1:%d'}\nlog: {level: error}\n%s", dir, port, port, admin, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d := &daemon{cmd: exec.Command(binary, "run", "--config", config), addr: fmt.Sprintf("127.0.0.1:%d", port), admin: fmt.Sprintf("http://127.0.0.1:%d", admin), dir: dir}
	d.url = "http://" + d.addr + "/api/usages"
	d.cmd.Stderr = os.Stderr
	d.cmd.Env = append(os.Environ(), environment...)
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	return d, waitFor(d.admin + "/readyz")
}

func waitFor(url string) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode < 300 { // the daemon returns 503 while it starts
				return nil
			}
		}
	}
	return fmt.Errorf("%s does not answer", url)
}

func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Wait()
}

func (d *daemon) rss() (mib float64, err error) { return maxRSS(strconv.Itoa(d.cmd.Process.Pid)) }
