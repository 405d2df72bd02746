package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"collectord/config"
	"collectord/shipper/bucket"
)

// TestTheDoctorRunsInTheServicesPlace checks the command line that the doctor builds from
// the kernel's view of a daemon.
func TestTheDoctorRunsInTheServicesPlace(t *testing.T) {
	p := runningProcess{
		pid:     77,
		status:  []byte("Name:\tcollectord\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t997 4 \n"),
		environ: []byte("PATH=/usr/bin\x00COLLECTORD_NODE=a b\x00CREDENTIALS_DIRECTORY=/run/credentials/collectord.service\x00NOTIFY_SOCKET=/run/x\x00WATCHDOG_USEC=1\x00LISTEN_FDS=2\x00JOURNAL_STREAM=8:1\x00"),
		cmdline: []byte("/usr/bin/collectord\x00--config\x00/etc/c.yaml\x00run\x00--log-level=debug\x00"),
	}
	for what, c := range map[string]struct {
		settings, others []string
		groups           string // the groups in the process status
		wantGroups       string
		want             string // flags
	}{
		"as it runs":             {nil, []string{"--json=true"}, "997 4", "--groups=997,4", "--json=true --config /etc/c.yaml --log-level=debug"},
		"another configuration":  {[]string{"--config=/tmp/new.yaml"}, nil, "997 4", "--groups=997,4", "--config=/tmp/new.yaml"},
		"a user without a group": {nil, nil, "", "--clear-groups", "--config /etc/c.yaml --log-level=debug"},
	} {
		p.status = []byte(strings.Replace(string(p.status), "Groups:\t997 4 \n", "Groups:\t"+c.groups+" \n", 1))
		argv, env := p.command(c.settings, c.others)
		own := ownExecutable()
		want := "/usr/bin/nsenter --target 77 --mount --net --wd -- /usr/bin/setpriv --reuid=998 --regid=997 " + c.wantGroups + " " + own + " doctor --inside=77 " + c.want
		if got := strings.Join(argv, " "); got != want {
			t.Errorf("%s: %s\nwant %s", what, got, want)
		}
		if want := []string{"PATH=/usr/bin", "COLLECTORD_NODE=a b", "CREDENTIALS_DIRECTORY=/run/credentials/collectord.service"}; !slices.Equal(env, want) {
			t.Errorf("%s: %q", what, env)
		}
		p.status = []byte("Name:\tcollectord\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t997 4 \n")
	}
	if argv, _ := (runningProcess{pid: 1}).command(nil, nil); !slices.Contains(argv, "--reuid=65534") {
		t.Errorf("for a process with an unknown user: %q", argv)
	}
	for properties, want := range map[string]int{"LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=12\n": 12, "MainPID=0\nLoadState=loaded\n": 0, "LoadState=not-found\nMainPID=0\n": -1, "": -1} {
		pid, loaded, failed := parseServiceStatus(properties)
		if failed {
			t.Errorf("%q: failed", properties)
		}
		if !loaded {
			pid = -1
		}
		if pid != want {
			t.Errorf("%q: %d, want %d", properties, pid, want)
		}
	}
	for _, properties := range []string{"LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\n", "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nMainPID=0\n"} {
		if pid, loaded, failed := parseServiceStatus(properties); pid != 0 || !loaded || !failed {
			t.Errorf("%q: %d, %v, %v", properties, pid, loaded, failed)
		}
	}
}

// TestTheDoctorChecksNoCredentialsOfAStoppedService: only a running service can read its
// credentials. Other files and keys are checked.
func TestTheDoctorChecksNoCredentialsOfAStoppedService(t *testing.T) {
	for _, name := range []string{"CREDENTIALS_DIRECTORY", "AWS_ACCESS_KEY_ID"} {
		t.Setenv(name, "")
	}
	files := []namedFile{{key: "http.tokens_file", path: "tokens"}, {key: "http.tls.key", path: "/etc/key"}}
	for origin, want := range map[string]bool{"tokens": true, "/etc/key": false, "collectord.yaml:3": false} {
		for _, key := range []string{"http.tokens_file", "http.tls.key"} {
			if got := isCredential(config.Mistake{Key: key, Origin: origin}, files); got != (want && key == "http.tokens_file") {
				t.Errorf("%s of %s: %v", key, origin, got)
			}
		}
	}
	failed := func() []bucket.Step {
		return []bucket.Step{{Name: "tls", Outcome: bucket.Failed}, {Name: "credentials", Outcome: bucket.Failed}}
	}
	cfg := &config.Config{}
	if got := skipCredentials(cfg, failed()); got[0].Outcome != bucket.Failed || got[1].Outcome != bucket.NotChecked || got[1].Found == "" {
		t.Errorf("%+v", got)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	if got := skipCredentials(cfg, failed()); got[1].Outcome != bucket.Failed {
		t.Errorf("with keys: %+v", got)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	cfg.Shipper.S3.CredentialsFile = "/etc/keys"
	if got := skipCredentials(cfg, failed()); got[1].Outcome != bucket.Failed {
		t.Errorf("with a file: %+v", got)
	}
}

// TestDoctorFlagsAreDistinguished separates the doctor's own flags from flags of the
// configuration. The latter replace the daemon's flags.
func TestDoctorFlagsAreDistinguished(t *testing.T) {
	c, _, err := rootCommand(nil).Find([]string{"doctor"})
	if err == nil {
		err = c.ParseFlags([]string{"--json", "--node", "a b", "--udp-allow", "10.0.0.0/8,::1/128", "--config", "x.yaml"})
	}
	settings, others := changedFlags(c)
	here, _ := filepath.Abs("x.yaml")
	if err != nil || !slices.Equal(others, []string{"--json=true"}) || !slices.Equal(settings, []string{"--config=" + here, "--node=a b", "--udp-allow=10.0.0.0/8,::1/128"}) {
		t.Errorf("%q, %q, %v", settings, others, err)
	}
}

// The names of a unit's variables are found, whatever their values are.
func TestVariablesOfAUnitAreFound(t *testing.T) {
	for property, want := range map[string][]string{
		"Environment=\n": nil,
		"Environment=COLLECTORD_DATA_DIR=/srv/usages LANG=C AWS_REGION=x\n": {"COLLECTORD_DATA_DIR", "AWS_REGION"},
		"Environment=X=1 \"COLLECTORD_NODE=a b\" MY_COLLECTORD_X=1\n":       {"COLLECTORD_NODE"},
	} {
		if got := parseUnitVariables(property); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", property, got, want)
		}
	}
}
