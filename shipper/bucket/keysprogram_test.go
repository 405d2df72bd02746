package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sys/unix"
)

// keysProgram returns a keys file that names a shell script.
func keysProgram(t *testing.T, script string) (file string) {
	t.Helper()
	t.Setenv("AWS_PROFILE", "")
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	file = filepath.Join(dir, "credentials")
	if err := errors.Join(os.WriteFile(program, []byte("cd "+dir+"\n"+script), 0o600), os.WriteFile(file, []byte("[default]\ncredential_process = sh "+program+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKeysComeFromAProgram(t *testing.T) {
	for name, c := range map[string]struct{ script, key, problem string }{
		"keys":       {`echo '{"Version":1,"AccessKeyId":"AK","SecretAccessKey":"s"}'`, "AK", ""},
		"no secret":  {`echo '{"Version":1,"AccessKeyId":"AK"}'`, "", "one or both are missing"},
		"no JSON":    {"echo SECRET", "", "credential_process: it printed no JSON with keys"},
		"a failure":  {"echo SECRET >&2; exit 3", "", "credential_process: exit status 3"},
		"no program": {"exec /nonexistent", "", "credential_process: exit status 127"},
	} {
		file := keysProgram(t, c.script)
		v, err := (&keyProvider{from: file, file: file}).Retrieve()
		if v.AccessKeyID != c.key && c.key != "" || (err != nil) != (c.problem != "") || err != nil && (!strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), "SECRET")) {
			t.Errorf("%s: %q, %v", name, v.AccessKeyID, err)
		}
	}
}

// TestAKeysProgramMayBeInQuotes: they are around the program and its arguments.
func TestAKeysProgramMayBeInQuotes(t *testing.T) {
	for _, quote := range []string{`"`, "'"} {
		file := keysProgram(t, `echo '{"Version":1,"AccessKeyId":"AK","SecretAccessKey":"s"}'`)
		text, err := os.ReadFile(file)
		if err == nil {
			before, command, _ := strings.Cut(strings.TrimSpace(string(text)), " = ")
			err = os.WriteFile(file, []byte(before+" = "+quote+command+quote+"\n"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if v, err := readKeysFile(file, nil); err != nil || v.AccessKeyID != "AK" {
			t.Errorf("%s: %q, %v", quote, v.AccessKeyID, err)
		}
		if err := os.WriteFile(file, []byte("[default]\ncredential_process = "+quote+" "+quote+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkKeysFile(file); err == nil {
			t.Errorf("%s: no program is accepted", quote)
		}
	}
}

// TestAProgramForKeysThatHangsIsEnded with everything that it started.
func TestAProgramForKeysThatHangsIsEnded(t *testing.T) {
	if v, err := runKeysProgram(t.Context(), "sleep 1000", time.Millisecond); err == nil || !strings.Contains(err.Error(), "it printed no keys within 1ms") {
		t.Errorf("%v, %v", v, err)
	}
	file := keysProgram(t, "cat pipe; sleep 1000 | cat")
	pipe := filepath.Join(filepath.Dir(file), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, s := newFake(t, func(o *S3Options) { o.CredentialsFile, o.Region = file, "" })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		started, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the script
		if err != nil {
			t.Error(err)
			return
		}
		started.Close()
	}()
	if err := s.Put(ctx, testObject("a", "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("put returned %v", err)
	}
}

func TestKeysOfAProgramAreAskedForBeforeTheyExpire(t *testing.T) {
	for _, c := range []struct {
		lifetime time.Duration
		again    bool
	}{{time.Hour, false}, {expiryMargin / 2, true}} {
		file := keysProgram(t, fmt.Sprintf(`echo '{"Version":1,"AccessKeyId":"AK","SecretAccessKey":"s","Expiration":%q}'`, time.Now().Add(c.lifetime).Format(time.RFC3339)))
		p := &keyProvider{from: file, file: file}
		if _, err := p.Retrieve(); err != nil || p.IsExpired() != c.again {
			t.Errorf("a lifetime of %v: expired %v, %v", c.lifetime, p.IsExpired(), err)
		}
	}
}

// role is a role whose service may fail.
type role struct {
	v     credentials.Value
	err   error
	asked int
}

func (r *role) Retrieve() (credentials.Value, error) { return r.RetrieveWithCredContext(nil) }
func (r *role) IsExpired() bool                      { return true }

func (r *role) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	r.asked++
	return r.v, r.err
}

// TestKeysOfARoleAreUsedUntilTheyExpire, although they are asked for earlier.
func TestKeysOfARoleAreUsedUntilTheyExpire(t *testing.T) {
	for _, lifetime := range []time.Duration{time.Hour, -time.Second} {
		r := &role{v: credentials.Value{AccessKeyID: "AK", SecretAccessKey: "s", Expiration: time.Now().Add(lifetime)}}
		p := &keyProvider{from: fromRole, Provider: r}
		if _, err := p.Retrieve(); err != nil {
			t.Fatal(err)
		}
		r.v, r.err = credentials.Value{}, errors.New("503 Service Unavailable")
		v, err := p.Retrieve()
		var failed *credentialError
		if valid := lifetime > 0; (v.AccessKeyID == "AK") != valid || errors.As(err, &failed) == valid || valid != strings.Contains(p.source(), "no new keys can be read (503") {
			t.Errorf("keys that expire in %v: %q, %v, from %s", lifetime, v.AccessKeyID, err, p.source())
		}
	}
}

// TestASourceOfKeysThatFailsDelaysFewRequests: while it does not answer, each request waits.
func TestASourceOfKeysThatFailsDelaysFewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &role{v: credentials.Value{AccessKeyID: "AK", SecretAccessKey: "s", Expiration: time.Now().Add(time.Hour)}}
		keys := credentials.New(&keyProvider{from: fromRole, Provider: r})
		ask := func() {
			t.Helper()
			if v, err := keys.GetWithContext(nil); err != nil || v.AccessKeyID != "AK" {
				t.Errorf("got %q, %v", v.AccessKeyID, err)
			}
		}
		ask()
		r.err = errors.New("503 Service Unavailable")
		for range 100 { // requests
			ask()
		}
		if r.asked != 2 {
			t.Errorf("it was asked %d times", r.asked)
		}
		keys.Expire() // the storage has rejected the keys
		ask()
		time.Sleep(keysRetryDelay)
		ask()
		if r.asked != 4 {
			t.Errorf("it was asked %d times", r.asked)
		}
	})
}

// TestAProgramForKeysThatFailsDelaysFewRequests although its keys expire soon.
func TestAProgramForKeysThatFailsDelaysFewRequests(t *testing.T) {
	file := keysProgram(t, fmt.Sprintf(`echo x >>runs
test -e fail && exit 1
echo '{"Version":1,"AccessKeyId":"AK","SecretAccessKey":"s","Expiration":%q}'`, time.Now().Add(expiryMargin/2).Format(time.RFC3339)))
	keys := credentials.New(&keyProvider{from: file, file: file})
	for range 10 {
		if v, err := keys.GetWithContext(nil); err != nil || v.AccessKeyID != "AK" {
			t.Errorf("got %q, %v", v.AccessKeyID, err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), "fail"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if runs, err := os.ReadFile(filepath.Join(filepath.Dir(file), "runs")); err != nil || len(runs) != len("x\nx\n") {
		t.Errorf("it ran as often as there are lines: %q, %v", runs, err)
	}
}
