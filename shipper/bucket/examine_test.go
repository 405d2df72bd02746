package bucket

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

// notPassed checks that the result has all steps, in order. It returns the first failed
// step, and all that did not pass, by name.
func notPassed(t *testing.T, steps []Step) (first string, others map[string]Step) {
	t.Helper()
	others = map[string]Step{}
	var names []string
	for _, s := range steps {
		names = append(names, s.Name)
		if s.Outcome == Passed {
			if s.Found == "" || s.Advice != "" {
				t.Errorf("%+v", s)
			}
			continue
		}
		others[s.Name] = s
		if s.Outcome == Failed && first == "" {
			first = s.Name
		}
	}
	if !slices.Equal(names, Steps()) {
		t.Errorf("got the steps %q", names)
	}
	if i := slices.Index(names, first); first != "" {
		for _, s := range steps[i+1:] {
			if s.Outcome != NotChecked || s.Found != first+" comes first" {
				t.Errorf("after the failure of %s: %+v", first, s)
			}
		}
	}
	return first, others
}

// checkStep checks that only one step did not pass, and the outcome of that step. With Passed, it
// checks that all steps passed.
func checkStep(t *testing.T, first string, others map[string]Step, step string, outcome Outcome, advice string) {
	t.Helper()
	if step != stepTLS { // not checked over http
		delete(others, stepTLS)
	}
	switch got := others[step]; {
	case outcome == Failed && first != step, outcome != Failed && first != "":
		t.Errorf("the first failed step is %q: %+v", first, others)
	case outcome == Passed && len(others) > 0:
		t.Errorf("%+v", others)
	case outcome != Passed && (got.Outcome != outcome || !strings.Contains(got.Advice, advice)):
		t.Errorf("%+v", got)
	}
}

func alwaysError(status int, code string) s3test.Behaviour {
	return s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, status, code) }}
}

func errorFor(method string, status int, code string) s3test.Behaviour {
	return s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == method && !r.URL.Query().Has("location") && s3test.Error(w, status, code)
	}}
}

// TestExamineNamesTheFailedStep makes each step fail in turn.
func TestExamineNamesTheFailedStep(t *testing.T) {
	sse := func(o *S3Options) { o.SSE = "s3" }
	for name, c := range map[string]struct {
		behaviour s3test.Behaviour
		change    func(*S3Options)
		step      string // failed or doubtful
		outcome   Outcome
		advice    string
	}{
		"a web page":             {s3test.Behaviour{Fault: s3test.EveryPage}, nil, stepAnswer, Failed, "no S3 storage answers"},
		"a wrong secret":         {alwaysError(403, "SignatureDoesNotMatch"), nil, stepKeys, Failed, "the access key or its secret is wrong"},
		"an unknown key":         {alwaysError(403, "InvalidAccessKeyId"), nil, stepKeys, Failed, "the access key or its secret is wrong"},
		"an expired token":       {alwaysError(400, "ExpiredToken"), nil, stepKeys, Failed, "have expired"},
		"a wrong clock":          {alwaysError(403, "RequestTimeTooSkewed"), nil, stepKeys, Failed, "NTP"},
		"a closed account":       {alwaysError(403, "AccountProblem"), nil, stepKeys, Failed, "ask the provider"},
		"no keys":                {s3test.Behaviour{}, func(o *S3Options) { o.CredentialsFile = "/nowhere" }, stepKeys, Failed, "shipper.s3.credentials_file"},
		"no bucket":              {alwaysError(404, "NoSuchBucket"), nil, stepBucket, Failed, "create the bucket bucket"},
		"another region":         {alwaysError(301, "PermanentRedirect"), nil, stepBucket, Failed, "another region"},
		"no permission":          {errorFor(http.MethodPut, 403, "AccessDenied"), nil, stepPut, Failed, "s3:PutObject"},
		"full":                   {errorFor(http.MethodPut, 507, "XMinioStorageFull"), nil, stepPut, Failed, "make room"},
		"busy":                   {alwaysError(503, "SlowDown"), nil, stepPut, Failed, "check the storage"},
		"keeps nothing":          {s3test.Behaviour{Lie: s3test.KeepsNothing}, nil, stepPut, Failed, "keeps nothing"},
		"an unverified checksum": {s3test.Behaviour{BlindCRC32C: true}, func(o *S3Options) { o.Checksum = "crc32c" }, stepChecksum, Failed, "shipper.s3.checksum: auto"},
		"no checksum":            {s3test.Behaviour{NoCRC32C: true, NoMD5: true, BlindSHA256: true}, nil, stepChecksum, Doubtful, "verifies checksums"},
		"no encryption":          {s3test.Behaviour{Encryption: s3test.Disregard}, sse, stepEncryption, Failed, "nothing is sent"},
		"unconfirmed encryption": {s3test.Behaviour{Encryption: s3test.ObeySilently}, func(o *S3Options) { o.SSE, o.SSEUnconfirmed = "s3", "accept" }, stepEncryption, Doubtful, "make sure that the storage encrypts"},
		"another class":          {s3test.Behaviour{Class: s3test.Disregard}, func(o *S3Options) { o.StorageClass = "STANDARD_IA" }, stepClass, Doubtful, ""},
		"reading forbidden":      {errorFor(http.MethodHead, 403, "AccessDenied"), nil, stepRead, Doubtful, "grant s3:GetObject"},
		"reading fails":          {errorFor(http.MethodHead, 500, "InternalError"), nil, stepRead, Failed, ""},
		"another object":         {s3test.Behaviour{Read: s3test.ReadsTwice}, nil, stepRead, Failed, "something else, answers"},
		"object missing":         {s3test.Behaviour{Lie: s3test.ConfirmsNothing}, nil, stepRead, Failed, "keeps nothing"},
		"no metadata":            {s3test.Behaviour{NoMetadata: true}, nil, stepMetadata, Doubtful, "x-amz-meta-*"},
		"listing forbidden": {s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Query().Has("list-type") && s3test.Error(w, 403, "AccessDenied")
		}}, nil, stepList, Doubtful, "s3:ListBucket"},
		"everything passes": {s3test.Behaviour{}, sse, "", Passed, ""},
		"no conditions":     {s3test.Behaviour{Conditions: s3test.Refuse}, nil, "", Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t, func(o *S3Options) {
				if c.change != nil {
					c.change(o)
				}
			})
			f.Behave(c.behaviour)
			first, others := notPassed(t, Examine(t.Context(), s))
			if tls := others[stepTLS]; tls.Outcome != NotChecked || !strings.Contains(tls.Found, "http://") && first == "" {
				t.Errorf("%+v", tls)
			}
			checkStep(t, first, others, c.step, c.outcome, c.advice)
			for key := range f.Objects() {
				if key != "data/"+probeKey && !strings.HasPrefix(key, "data/_collectord/wrong-") {
					t.Errorf("%s was put", key)
				}
			}
		})
	}
}

// TestExamineDoesNotJudgeKeysThatWereNotChecked: a busy storage answers before it checks
// the keys.
func TestExamineDoesNotJudgeKeysThatWereNotChecked(t *testing.T) {
	for code, want := range map[int]Outcome{503: NotChecked, 500: NotChecked, 507: Passed, 403: Passed} {
		f, s := newFake(t)
		f.Behave(errorFor(http.MethodPut, code, map[int]string{403: "AccessDenied", 500: "InternalError", 503: "SlowDown", 507: "XMinioStorageFull"}[code]))
		for _, step := range Examine(t.Context(), s) {
			if (step.Name == stepKeys || step.Name == stepBucket) && step.Outcome != want {
				t.Errorf("%d: %+v", code, step)
			}
		}
	}
}

// TestExamineReportsAStorageThatHangs has a storage that hangs from one of the methods on. The
// report contains advice.
func TestExamineReportsAStorageThatHangs(t *testing.T) {
	for method, step := range map[string]string{http.MethodPut: stepAnswer, http.MethodHead: stepRead} {
		f, s := newFake(t)
		f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == method {
				<-r.Context().Done()
			}
			return false
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		i := slices.IndexFunc(Examine(ctx, s), func(s Step) bool {
			return s.Outcome == Failed && s.Name == step && s.Found == "the storage has not answered within the time of this check" && strings.Contains(s.Advice, "hangs")
		})
		if i < 0 {
			t.Errorf("%s: %+v", method, Examine(ctx, s))
		}
	}
}

// TestExamineChecksNameConnectionAndTLS makes name lookup, connection and TLS fail.
func TestExamineChecksNameConnectionAndTLS(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unusedAddr := closed.Addr().String()
	closed.Close()
	plain, _ := newFake(t)
	now := time.Now()
	good, goodCA := secureServer(t, "127.0.0.1", now.Add(100*24*time.Hour))
	soon, soonCA := secureServer(t, "127.0.0.1", now.Add(10*24*time.Hour))
	expired, expiredCA := secureServer(t, "127.0.0.1", now.Add(-time.Hour))
	other, otherCA := secureServer(t, "storage.example", now.Add(100*24*time.Hour))
	for name, c := range map[string]struct {
		endpoint, ca, step string
		outcome            Outcome
		advice             string
	}{
		"no such name":                    {"http://nowhere.invalid:9000", "", stepName, Failed, "shipper.s3.endpoint"},
		"nothing listens":                 {"http://" + unusedAddr, "", stepConnection, Failed, "nothing listens there"},
		"an unknown authority":            {good, "", stepTLS, Failed, "shipper.s3.ca_file"},
		"an expired certificate":          {expired, expiredCA, stepTLS, Failed, "renew the storage's certificate, or correct the clock"},
		"a certificate for another name":  {other, otherCA, stepTLS, Failed, "write one of the certificate's names in shipper.s3.endpoint: storage.example"},
		"no TLS":                          {strings.Replace(plain.URL, "http:", "https:", 1), "", stepTLS, Failed, "write http://"},
		"a certificate that expires soon": {soon, soonCA, stepTLS, Doubtful, "renew"},
		"everything passes":               {good, goodCA, "", Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := testS3(t, c.endpoint, s3test.Bucket, "data/", func(o *S3Options) { o.CAFile = c.ca })
			first, others := notPassed(t, Examine(t.Context(), s))
			checkStep(t, first, others, c.step, c.outcome, c.advice)
		})
	}
}

// TestExamineNamesUnreachableAddresses: addresses of a family that the host does not have are not
// named.
func TestExamineNamesUnreachableAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		errs    map[string]error // by address
		outcome Outcome
		text    string
	}{
		"all reachable":     {nil, Passed, "connected to 192.0.2.1, 2001:db8::1"},
		"no IPv6":           {map[string]error{"[2001:db8::1]:9000": syscall.ENETUNREACH}, Passed, "connected to 192.0.2.1"},
		"one refuses":       {map[string]error{"[2001:db8::1]:9000": syscall.ECONNREFUSED}, Doubtful, "but not to all: dial: connection refused"},
		"the first refuses": {map[string]error{"192.0.2.1:9000": syscall.ECONNREFUSED}, Doubtful, "connected to 2001:db8::1, but not"},
		"none reachable":    {map[string]error{"192.0.2.1:9000": syscall.ETIMEDOUT, "[2001:db8::1]:9000": syscall.ENETUNREACH}, Failed, "timed out"},
	} {
		x := examination{}
		base := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			if err := c.errs[address]; err != nil {
				return nil, &net.OpError{Op: "dial", Err: err}
			}
			conn, _ := net.Pipe()
			return conn, nil
		}}
		conn, ok := x.connect(t.Context(), base, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, "9000", "the storage")
		if got := x.steps[0]; got.Outcome != c.outcome || !strings.Contains(got.Found, c.text) || ok != (conn != nil) || ok != (c.outcome != Failed) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// secureServer starts a fake storage behind TLS, and returns its URL and the file of its
// CA.
func secureServer(t *testing.T, name string, until time.Time) (url, caFile string) {
	t.Helper()
	f, _ := newFake(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-10_000 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return "https://" + ln.Addr().String(), caFile
}

// TestClocksAreCompared checks that the Date of an answer is compared, unless the answer is from
// a cache.
func TestClocksAreCompared(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   time.Duration
		known  bool
	}{
		"the same":       {http.Header{}, 0, true}, // set by the server
		"an hour behind": {http.Header{"Date": {time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}}, time.Hour, true},
		"an hour ahead":  {http.Header{"Date": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}, -time.Hour, true},
		"none":           {http.Header{"Date": nil}, 0, false},
		"not a date":     {http.Header{"Date": {"yesterday"}}, 0, false},
		"from a cache":   {http.Header{"Date": {time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}, "Age": {"3600"}}, 0, false},
	} {
		f, s := newFake(t)
		f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
			for k, v := range c.header {
				w.Header()[k] = v
			}
			return false
		}})
		known, ahead := false, time.Duration(0)
		ctx := WithCallOptions(t.Context(), &CallOptions{OnClock: func(d time.Duration) { known, ahead = true, d }})
		if err := s.Probe(ctx); err != nil {
			t.Fatal(err)
		}
		if known != c.known || (ahead-c.want).Abs() > time.Minute {
			t.Errorf("%s: %v, known: %t", name, ahead, known)
		}
	}
}

func TestRealStoragesPassEveryStep(t *testing.T) {
	for name, endpoint := range map[string]func(testing.TB) string{"minio": s3test.MinIO, "versitygw": s3test.Versity} {
		t.Run(name, func(t *testing.T) {
			s := newBucket(t, endpoint(t), false)
			ahead := time.Hour
			ctx := WithCallOptions(t.Context(), &CallOptions{OnClock: func(d time.Duration) { ahead = d }})
			for _, again := range []bool{false, true} { // the second pass finds the objects of the first
				first, others := notPassed(t, Examine(ctx, s))
				checkStep(t, first, others, "", Passed, "")
				if ahead.Abs() > maxClockError {
					t.Errorf("second pass: %t: the clock is %v ahead", again, ahead)
				}
			}
			s.bucket += "-not"
			s.current.Store(nil)
			first, others := notPassed(t, Examine(ctx, s))
			checkStep(t, first, others, stepBucket, Failed, "create the bucket")
			s = testS3(t, endpoint(t), s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile = s3test.KeysFile(t, s3test.User, "wrong-secret", "") })
			first, others = notPassed(t, Examine(ctx, s))
			checkStep(t, first, others, stepKeys, Failed, "the access key or its secret is wrong")
		})
	}
}

// maxClockError is how far the clocks of one busy host may seem to differ.
const maxClockError = 10 * time.Second
