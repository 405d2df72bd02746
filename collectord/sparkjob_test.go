//go:build torture

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/storages"
)

// lakehouse is a destination, and the table that its objects are compacted into.
type lakehouse struct {
	t         *testing.T
	dir       string
	tools     string
	endpoint  string
	store     bucket.Store // the destination
	lake      bucket.Store // the files of the table
	script    string       // the command of docs/compaction-spark.md
	generated int          // objects
}

// newLakehouse returns a destination in MinIO, an empty catalog, and the settings of a
// daemon that ships to the destination.
func newLakehouse(t *testing.T) (l *lakehouse, settings string) {
	t.Helper()
	l = &lakehouse{t: t, dir: t.TempDir(), tools: filepath.Join(storages.Tools(), "spark")}
	if _, err := os.Stat(filepath.Join(l.tools, "jars", "stamp")); err != nil {
		skipMissing(t, "Spark (make compaction-spark installs it)")
	}
	if missing := notInstalled("java", "bash"); missing != "" {
		skipMissing(t, missing)
	}
	settings = startMinIO(t, l.dir)
	l.endpoint = regexp.MustCompile(`http://[0-9.:]+`).FindString(settings)
	open := func(url string) bucket.Store {
		s, err := bucket.Open(bucket.Destination{URL: url, S3: bucket.S3Options{Endpoint: l.endpoint, Region: "us-east-1", CredentialsFile: filepath.Join(l.dir, "credentials")}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	l.store, l.lake = open("s3://usages/prod"), open("s3://usages/lake")

	page, err := os.ReadFile("../docs/compaction-spark.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```sh\n([^`]*spark_job.py.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/compaction-spark.md does not show the command")
	}
	l.script = "exec " + string(found[1])
	for _, change := range [][2]string{
		{"http://minio.example:9000", l.endpoint},
		{"jdbc:postgresql://db.example/iceberg", "jdbc:sqlite:" + l.catalog() + "?busy_timeout=120000"},
		{" jars/*.jar", " " + l.tools + "/jars/*.jar"},
		{"packaging/compact/", "../packaging/compact/"},
	} {
		if !strings.Contains(l.script, change[0]) {
			t.Fatalf("no %s in %s", change[0], l.script)
		}
		l.script = strings.ReplaceAll(l.script, change[0], change[1])
	}
	// What a cluster has configured.
	defaults := "spark.master local[2]\nspark.driver.memory 2g\nspark.ui.enabled false\nspark.sql.shuffle.partitions 4\nspark.local.dir " + l.dir + "\n"
	if *sparkHosts == 0 { // the jobs are so short that a better compiler would cost more than it saves
		defaults += "spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1\n"
	}
	if err := os.WriteFile(filepath.Join(l.dir, "spark-defaults.conf"), []byte(defaults), 0o600); err != nil {
		t.Fatal(err)
	}
	return l, settings
}

func (l *lakehouse) catalog() string { return filepath.Join(l.dir, "catalog.db") }

func (l *lakehouse) env() []string {
	return append(os.Environ(), "PATH="+filepath.Join(l.tools, "bin")+":"+os.Getenv("PATH"),
		"PYSPARK_PYTHON="+filepath.Join(l.tools, "bin", "python"), "SPARK_CONF_DIR="+l.dir, "SPARK_LOCAL_IP=127.0.0.1",
		"AWS_ACCESS_KEY_ID="+testUser, "AWS_SECRET_ACCESS_KEY="+testSecret, "AWS_REGION=us-east-1")
}

// sparkJob is a running compaction: a process group, since Python starts Java or the other
// way round.
type sparkJob struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	ended    chan struct{}
}

func (l *lakehouse) start() *sparkJob { return l.submit(l.script) }

func (l *lakehouse) submit(script string) *sparkJob {
	l.t.Helper()
	j := &sparkJob{cmd: exec.Command("bash", "-ec", script), ended: make(chan struct{})}
	j.cmd.Env, j.cmd.Stdout, j.cmd.Stderr = l.env(), &j.out, &j.err
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := j.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		_ = j.cmd.Wait()
		close(j.ended)
	}()
	l.t.Cleanup(func() {
		j.signal(syscall.SIGKILL)
		<-j.ended
	})
	return j
}

func (j *sparkJob) signal(s syscall.Signal) { _ = syscall.Kill(-j.cmd.Process.Pid, s) }

// ends waits for the end of the job, and returns what it printed.
func (l *lakehouse) ends(j *sparkJob, status int) string {
	l.t.Helper()
	select {
	case <-j.ended:
	case <-time.After(20 * time.Minute):
		l.t.Fatalf("the job does not end: %s", j.out.String())
	}
	if got := j.cmd.ProcessState.ExitCode(); got != status {
		l.t.Fatalf("exit status %d, want %d: %s%s", got, status, j.out.String(), lastOf(j.err.String()))
	}
	return j.out.String()
}

func (l *lakehouse) run(status int) string {
	l.t.Helper()
	return l.ends(l.start(), status)
}

func lastOf(text string) string { return text[max(0, len(text)-6000):] }

// written lists the files of the table.
func (l *lakehouse) written() (files []string) {
	l.t.Helper()
	for key, err := range l.lake.List(context.Background(), "") {
		if err != nil {
			l.t.Fatal(err)
		}
		files = append(files, key)
	}
	return files
}
