package storages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Storage describes one S3 storage, which may consist of several programs.
type Storage struct {
	Name         string
	HowToInstall string // how to install it
	Region       string
	Volatile     bool // keeps all data in memory: a kill loses it

	programs []string
	prepare  func(*Server) error // once, before the first start
	run      func(*Server) []process
	ready    string              // path that returns 200 when it is ready; empty: any response to / counts
	setup    func(*Server) error // once, after the first start
}

// process is a program that runs as long as the storage.
type process struct {
	program   string
	args, env []string
}

// Missing returns the name of a required program that is neither in Tools nor in PATH, and
// how to install it. It returns "" if none is missing.
func (k Storage) Missing() string {
	for _, p := range k.programs {
		if _, err := find(p); err != nil {
			return fmt.Sprintf("%s (%s)", p, k.HowToInstall)
		}
	}
	return ""
}

// Tools returns the directory into which packaging/tools/build installs programs.
func Tools() string {
	if dir := os.Getenv("TEST_TOOLS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "collectord-tools", "bin")
}

// find searches for a program in Tools, then in PATH.
func find(program string) (path string, err error) {
	tools := Tools()
	for _, dir := range []string{tools, filepath.Join(tools, "storages", "bin"), filepath.Join(tools, "cargo", "bin")} {
		path = filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return exec.LookPath(program)
}

// Server is a storage with its own directory, ports and keys. It is not safe for
// concurrent use.
type Server struct {
	Storage
	Dir         string // may be on any disk
	Log         string // a file outside Dir
	Key, Secret string
	OmitArg     string // an argument or environment variable to omit at the start

	env     []string // environment of commands
	ports   []int
	running []*exec.Cmd
	isSetUp bool
}

// New prepares a server with its data in dir, which must be empty. It does not start the
// server.
func (k Storage) New(dir, log string) (*Server, error) {
	s := &Server{Storage: k, Dir: dir, Log: log, Key: "collectord-test", Secret: "collectord-test-secret"}
	if k.prepare == nil {
		return s, nil
	}
	return s, k.prepare(s)
}

// port returns the n-th port of this server, the same after each start. It is below the
// kernel's ephemeral ports, so that it stays free between starts.
func (s *Server) port(n int) int {
	for len(s.ports) <= n {
		p := 10000 + rand.IntN(20000)
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
			ln.Close()
			s.ports = append(s.ports, p)
		}
	}
	return s.ports[n]
}

func (s *Server) addr(n int) string { return fmt.Sprintf("127.0.0.1:%d", s.port(n)) }

// path returns the path of a file or directory of the server.
func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

// Endpoint returns the server's S3 URL.
func (s *Server) Endpoint() string { return "http://" + s.addr(0) }

// StartEmpty kills the server, deletes its data and starts it with the same address and
// keys.
func (s *Server) StartEmpty() error {
	s.Kill()
	names, err := filepath.Glob(s.path("*"))
	for _, name := range names {
		err = firstError(err, os.RemoveAll(name))
	}
	if s.isSetUp = false; err == nil && s.prepare != nil {
		err = s.prepare(s)
	}
	if err != nil {
		return err
	}
	return s.Start()
}

// Start starts the server and returns when it is ready.
func (s *Server) Start() error {
	for _, p := range s.run(s) {
		if err := s.begin(p); err != nil {
			return err
		}
	}
	if err := s.waitUntilReady(); err != nil {
		return err
	}
	if s.isSetUp || s.setup == nil {
		return nil
	}
	s.isSetUp = true
	return s.setup(s)
}

func (s *Server) begin(p process) error {
	path, err := find(p.program)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	isLeftOut := func(arg string) bool { name, _, _ := strings.Cut(arg, "="); return name == s.OmitArg }
	cmd := exec.Command(path, slices.DeleteFunc(slices.Clone(p.args), isLeftOut)...)
	cmd.Env = append(os.Environ(), slices.DeleteFunc(slices.Clone(p.env), isLeftOut)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a process group for Kill
	if err := cmd.Start(); err != nil {
		return err
	}
	s.running = append(s.running, cmd)
	return nil
}

func (s *Server) waitUntilReady() error {
	client := http.Client{Timeout: 2 * time.Second}
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		resp, err := client.Get(s.Endpoint() + s.ready)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if s.ready == "" || resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s does not become ready: see %s", s.Name, s.Log)
}

// Kill sends SIGKILL to all processes of the server, and waits for their end.
func (s *Server) Kill() {
	for _, cmd := range s.running {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	for _, cmd := range s.running {
		_ = cmd.Wait()
	}
	s.running = nil
}

// command runs a program to completion and returns its output. The limit is one minute.
func (s *Server) command(program string, args ...string) (stdout string, err error) {
	path, err := find(program)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(append(os.Environ(), "HOME="+filepath.Dir(s.Log)), s.env...) // a HOME it may write to
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s %v: %w: %s", program, args, err, exit.Stderr)
	}
	return string(out), err
}

// retry repeats a command for up to a minute, while a process that just started can't
// serve it yet.
func (s *Server) retry(program string, args ...string) (err error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) {
		if _, err = s.command(program, args...); err == nil {
			return nil
		}
	}
	return err
}
