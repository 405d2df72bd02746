package bucket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// recorded is an answer of a storage, as it was.
type recorded struct {
	status          int
	server, kind    string
	body            string
	sse, class      string // in effect when it was given, and what it was given for
	region          bool   // to the question for the region
	endpoint        string // scheme
	wantKind, hint  string
	transient, mine bool
}

func s3Says(code, message string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message + "</Message><BucketName>bucket</BucketName></Error>"
}

// TestTheHintNamesTheCause: each row is what that storage really answers, or what its
// documentation says.
func TestTheHintNamesTheCause(t *testing.T) {
	t.Parallel()
	const (
		xml         = "application/xml"
		unknownSSE  = "A header you provided implies functionality that is not implemented"
		signature   = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
		weed        = "SeaweedFS 8000GB 4.48"
		cantEncrypt = "the storage can't encrypt as shipper.s3.sse says: "
	)
	for name, c := range map[string]recorded{
		"a wrong secret, or a proxy that changes Host": {
			status: 403, kind: xml, body: s3Says("SignatureDoesNotMatch", signature), wantKind: "SignatureDoesNotMatch", hint: "a proxy before the storage changes Host",
		},
		"Ceph: no message": {status: 403, kind: xml, body: "<Error><Code>SignatureDoesNotMatch</Code><RequestId>tx0</RequestId></Error>", wantKind: "SignatureDoesNotMatch", hint: "changes Host"},
		"versitygw: unknown key": {
			status: 404, server: "VERSITYGW", kind: xml, body: s3Says("XAdminUserNotFound", "No user exists with the provided access key ID."),
			wantKind: "XAdminUserNotFound", hint: "the access key or its secret is wrong",
		},
		"MinIO: no KMS": {
			status: 501, server: "MinIO", kind: xml, sse: "s3", wantKind: "NotImplemented", hint: cantEncrypt + "it has no KMS (MinIO: MINIO_KMS_SECRET_KEY",
			body: s3Says("NotImplemented", "Server side encryption specified but KMS is not configured (KMS not configured for a server side encrypted objects)"),
		},
		"MinIO: unknown key of KMS": {
			status: 404, server: "MinIO", kind: xml, sse: "kms:nokey", wantKind: "http_404", hint: cantEncrypt + "its KMS does not know this key",
			body: s3Says("kms:KeyNotFound", "key with given key ID does not exist"),
		},
		"Ceph: encryption over http": {
			status: 400, kind: xml, sse: "s3", body: "<Error><Code>InvalidRequest</Code><RequestId>tx0</RequestId></Error>",
			wantKind: "InvalidRequest", hint: cantEncrypt + "Ceph does so over https only (rgw_crypt_require_ssl)",
		},
		"Ceph: no key for KMS": {
			status: 400, kind: xml, sse: "kms", body: s3Says("InvalidArgument", "Server Side Encryption with KMS managed key requires HTTP header x-amz-server-side-encryption-aws-kms-key-id"),
			wantKind: "InvalidArgument", hint: "needs a key for kms (kms:KEY)",
		},
		"SeaweedFS: no key for encryption": {
			status: 500, server: weed, kind: xml, sse: "s3", body: s3Says("InternalError", "We encountered an internal error, please try again."),
			wantKind: "InternalError", hint: cantEncrypt + "its encryption is not configured (SeaweedFS: WEED_S3_SSE_KEK)",
		},
		"JuiceFS: no encryption": {
			status: 501, server: "MinIO", kind: xml, sse: "kms", body: s3Says("NotImplemented", unknownSSE),
			wantKind: "NotImplemented", hint: cantEncrypt + "it has no encryption (leave the key empty",
		},
		"AWS: KMS is disabled": {status: 400, kind: xml, sse: "kms:a", body: s3Says("KMS.DisabledException", "arn:aws:kms:eu-central-1:1:key/a is disabled."), wantKind: "http_400", hint: cantEncrypt + "its KMS"},
		"AWS: unknown key of KMS": {
			status: 400, kind: xml, sse: "kms:a", body: s3Says("KMS.NotFoundException", "Invalid keyId a"), wantKind: "http_400", hint: "its KMS does not know this key",
		},
		"AWS: a key of KMS that may not be used": {
			status: 403, kind: xml, sse: "kms:a", body: s3Says("AccessDenied", "User: arn:aws:iam::1:user/x is not authorized to perform: kms:GenerateDataKey on resource: a"),
			wantKind: "AccessDenied", hint: "kms:GenerateDataKey and kms:Decrypt",
		},
		"MinIO: unknown class":   {status: 400, server: "MinIO", kind: xml, class: "NOSUCH", body: s3Says("InvalidStorageClass", "Invalid storage class."), wantKind: "InvalidStorageClass", hint: "shipper.s3.storage_class"},
		"Ceph: unknown class":    {status: 400, kind: xml, class: "NOSUCH", body: "<Error><Code>InvalidArgument</Code></Error>", wantKind: "InvalidArgument", hint: "the storage does not know this shipper.s3.storage_class"},
		"JuiceFS: unknown class": {status: 400, server: "MinIO", kind: xml, class: "STANDARD_IA", body: s3Says("InvalidStorageClass", "Invalid storage class."), wantKind: "InvalidStorageClass", hint: "shipper.s3.storage_class"},
		"an archived object": {
			status: 403, kind: xml, body: s3Says("InvalidObjectState", "The operation is not valid for the object's storage class"),
			wantKind: "InvalidObjectState", hint: "can't be read before it is restored", mine: true,
		},
		"S3Mock: a region that can't be asked for": {
			status: 500, kind: "application/json", region: true, transient: true,
			body: `{"timestamp":"2026-11-23T08:00:00.000+00:00","status":500,"error":"Internal Server Error","path":"/bucket/"}`, wantKind: "http_500", hint: "set shipper.s3.region",
		},
		"a region that is not allowed": {status: 400, kind: xml, region: true, body: s3Says("InvalidRequest", "Unsupported"), wantKind: "InvalidRequest", hint: "set shipper.s3.region"},
		"a region nobody knows":        {status: 404, kind: "application/json", region: true, body: `{"error":"Not Found"}`, wantKind: NotAStore, hint: "set shipper.s3.region"},
		"MinIO: the console's port": {
			status: 400, kind: "text/xml; charset=utf-8", body: s3Says("InvalidArgument", "S3 API Requests must be made to API port."),
			wantKind: NotAStore, hint: "this is the console of MinIO: its S3 API has another port",
		},
		"MinIO: the console's page": {
			status: 200, server: "MinIO Console", kind: "text/html", body: "<!doctype html><html><head><title>MinIO Console</title></head><body>You need to enable JavaScript</body></html>",
			wantKind: NotAStore, hint: "this is the console of MinIO",
		},
		"SeaweedFS: the filer's port":  {status: 201, server: weed, kind: "application/json", body: `{"name":"conditional-put.json","size":67}`, wantKind: NotAStore, hint: "this is the filer, master or volume server of SeaweedFS"},
		"SeaweedFS: the volume's port": {status: 400, server: "SeaweedFS Volume 8000GB 4.48", kind: "application/json", body: `{"error":"strconv.ParseUint: parsing \"usages\": invalid syntax"}`, wantKind: NotAStore, hint: "volume server of SeaweedFS"},
		"SeaweedFS: the master's port": {status: 404, kind: "text/plain; charset=utf-8", body: "404 page not found\n", wantKind: NotAStore, hint: "console or filer port"},
		"AWS: no account": {
			status: 403, kind: xml, body: s3Says("NotSignedUp", "Your account is not signed up for the Amazon S3 service. You must sign up before you can use Amazon S3."),
			wantKind: "NotSignedUp", hint: "not signed up",
		},
		"MinIO: a stale token": {
			status: 403, server: "MinIO", kind: xml, body: s3Says("InvalidTokenId", "The security token included in the request is invalid"),
			wantKind: "InvalidTokenId", hint: "the session token is wrong or stale: replace or remove aws_session_token",
		},
		"versitygw: a stale token": {
			status: 400, server: "VERSITYGW", kind: xml, body: s3Says("InvalidToken", "The provided token is malformed or otherwise invalid."),
			wantKind: "InvalidToken", hint: "aws_session_token, which is from ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t, func(o *S3Options) {
				o.SSE, o.StorageClass = c.sse, c.class
				if c.region {
					o.Region = ""
				}
			})
			f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
				if c.sse != "" && r.Header.Get("X-Amz-Server-Side-Encryption") == "" || c.class != "" && r.Header.Get("X-Amz-Storage-Class") == "" ||
					c.region != r.URL.Query().Has("location") {
					return false
				}
				w.Header().Set("Content-Type", c.kind)
				if c.server != "" {
					w.Header().Set("Server", c.server)
					w.Header().Set("X-Amz-Request-Id", "18EBB4CFE3AB49EE")
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
				return true
			}})
			var e *Error
			err := s.Put(t.Context(), unreal("a", "x"))
			if !errors.As(err, &e) || e.Kind != c.wantKind || e.Permanent == c.transient || e.OwnTrouble != c.mine || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%+v", err)
			}
			if _, sent := f.Objects()["data/a"]; sent || s.known.Load() != nil {
				t.Error("a usage was sent, or something was learned")
			}
		})
	}
}

// TestAProxyThatChangesHostIsNamed before real storages, which sign it.
func TestAProxyThatChangesHostIsNamed(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) string{"MinIO": s3test.MinIO, "versitygw": s3test.Versity} {
		to, err := url.Parse(start(t))
		if err != nil {
			t.Fatal(err)
		}
		proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}) // and so Host
		t.Cleanup(proxy.Close)
		s := testS3(t, proxy.URL, s3test.MakeBucket(t, to.String(), false), "")
		var e *Error
		if err := s.Put(t.Context(), unreal("a", "x")); !errors.As(err, &e) || e.Kind != "SignatureDoesNotMatch" || !strings.Contains(e.Hint, "a proxy before the storage changes Host") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheHintsOfRealStorages: what the table says of them.
func TestTheHintsOfRealStorages(t *testing.T) {
	t.Parallel()
	minio, versity := s3test.MinIO(t), s3test.Versity(t)
	keys := func(key, secret, token string) func(*S3Options) {
		return func(o *S3Options) { o.CredentialsFile = s3test.KeysFile(t, key, secret, token) }
	}
	for name, c := range map[string]struct {
		endpoint   string
		change     func(*S3Options)
		kind, hint string
	}{
		"MinIO: secret":     {minio, keys(s3test.User, "wrong", ""), "SignatureDoesNotMatch", "or its secret is wrong"},
		"MinIO: key":        {minio, keys("nobody", "wrong", ""), "InvalidAccessKeyId", "or its secret is wrong"},
		"MinIO: token":      {minio, keys(s3test.User, s3test.Secret, "stale"), "InvalidTokenId", "aws_session_token"},
		"MinIO: class":      {minio, func(o *S3Options) { o.StorageClass = "GLACIER" }, "InvalidStorageClass", "shipper.s3.storage_class"},
		"MinIO: key of KMS": {minio, func(o *S3Options) { o.SSE = "kms:nokey" }, "http_404", "its KMS does not know this key"},
		"versitygw: secret": {versity, keys(s3test.User, "wrong", ""), "SignatureDoesNotMatch", "or its secret is wrong"},
		"versitygw: key":    {versity, keys("nobody", "wrong", ""), "XAdminUserNotFound", "or its secret is wrong"},
		"versitygw: token":  {versity, keys(s3test.User, s3test.Secret, "stale"), "InvalidToken", "aws_session_token"},
	} {
		s := testS3(t, c.endpoint, s3test.MakeBucket(t, c.endpoint, false), "", c.change)
		var e *Error
		if err := s.Put(t.Context(), unreal("a", "x")); !errors.As(err, &e) || e.Kind != c.kind || !e.Permanent || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATokenIsNamedByItsVariable(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.User)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.Secret)
	t.Setenv("AWS_SESSION_TOKEN", "stale")
	endpoint := s3test.MinIO(t)
	s := testS3(t, endpoint, s3test.MakeBucket(t, endpoint, false), "", func(o *S3Options) { o.CredentialsFile = "" })
	if err := s.Put(t.Context(), unreal("a", "x")); err == nil || !strings.Contains(err.Error(), "replace or remove AWS_SESSION_TOKEN") {
		t.Error(err)
	}
}

// TestKeysWithALineBreakAreCredentials, wherever they are from, and are never repeated.
func TestKeysWithALineBreakAreCredentials(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	f, _ := newFake(t)
	for _, c := range [][3]string{{"KEY\nX", "SECRET", "TOKEN"}, {"KEY", "SECRET\r", "TOKEN"}, {"KEY", "SECRET", "TOKEN\n"}, {"KEY", "\tSECRET", ""}} {
		t.Setenv("AWS_ACCESS_KEY_ID", c[0])
		t.Setenv("AWS_SECRET_ACCESS_KEY", c[1])
		t.Setenv("AWS_SESSION_TOKEN", c[2])
		for _, region := range []string{"", "us-east-1"} {
			s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile, o.Region = "", region })
			var e *Error
			err := s.Put(t.Context(), unreal("a", "x"))
			if !errors.As(err, &e) || e.Kind != "credentials" || !e.Permanent || !strings.Contains(err.Error(), "contains a line break") {
				t.Errorf("%q: %v", c, err)
			}
			for _, secret := range []string{"KEY", "SECRET", "TOKEN"} {
				if strings.Contains(strings.ReplaceAll(fmt.Sprint(err), "AWS_", ""), secret) {
					t.Errorf("%q: %s is repeated: %v", c, secret, err)
				}
			}
		}
	}
}

func TestAPageIsShownAsText(t *testing.T) {
	t.Parallel()
	const nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
	const squid = `<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN"><html><head><style type="text/css"> body { color: red } </style><title>ERROR: Access Denied</title>` +
		"<script>alert(1)</script></head><body><h1>ERROR</h1><p>Access &lt;Denied&gt;\x1b[31m by policy</p></body></html>"
	for name, c := range map[string]struct {
		status int
		page   string
		want   []string
	}{
		"502 of nginx": {502, nginx, []string{"502 Bad Gateway. 502 Bad Gateway nginx/1.22.1"}},
		"503 of squid": {503, squid, []string{"ERROR: Access Denied. ERROR Access <Denied>"}},
		"403 of squid": {403, squid, []string{"ERROR: Access Denied. ERROR Access <Denied>", "the answer is not S3's", "status 403"}},
		"200 of a hotel": {
			200, "<html><title>Welcome</title><body>" + strings.Repeat("Log in. ", 1000) + "</body></html>",
			[]string{"Welcome. Log in. Log in.", "…"},
		},
	} {
		f, s := newFake(t)
		f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(c.status)
			io.WriteString(w, c.page)
			return true
		}})
		err := fmt.Sprint(s.Put(t.Context(), unreal("a", "x")))
		for _, want := range c.want {
			if !strings.Contains(err, want) {
				t.Errorf("%s: %s", name, err)
			}
		}
		for _, html := range []string{"<html", "<h1", "alert", "color", "</", "&lt;", "\x1b"} {
			if strings.Contains(err, html) || len(err) > 1000 {
				t.Errorf("%s: HTML, or too much: %s", name, err)
			}
		}
	}
}

// TestTheProxyIsNamed runs itself with the variables of a proxy, which are read once.
func TestTheProxyIsNamed(t *testing.T) {
	const variable = "COLLECTORD_TEST_PROXIED"
	if endpoint := os.Getenv(variable); endpoint != "" {
		fmt.Println(testS3(t, endpoint, s3test.Bucket, "").Put(t.Context(), unreal("a", "x")))
		return
	}
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(map[bool]int{true: http.StatusProxyAuthRequired, false: http.StatusBadGateway}[r.Method == http.MethodConnect])
		io.WriteString(w, "<html><body>not from here</body></html>")
	}))
	t.Cleanup(refusing.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	ln.Close()
	there := strings.TrimPrefix(refusing.URL, "http://")
	for name, c := range map[string]struct {
		set, endpoint string
		want          []string
	}{
		"http, refused":   {"HTTP_PROXY=http://user:hunter2@" + nobody, "http://s3.example:9000", []string{"reached by the proxy " + nobody + " (HTTP_PROXY)", "NO_PROXY"}},
		"https, refused":  {"HTTPS_PROXY=http://user:hunter2@" + nobody, "https://s3.example", []string{"reached by the proxy " + nobody + " (HTTPS_PROXY)", "NO_PROXY"}},
		"https, 407":      {"https_proxy=http://user:hunter2@" + there, "https://s3.example", []string{"reached by the proxy " + there + " (HTTPS_PROXY)", "407 Proxy Authentication Required"}},
		"http, its page":  {"http_proxy=http://user:hunter2@" + there, "http://s3.example:9000", []string{"reached by the proxy " + there + " (HTTP_PROXY)", "not from here"}},
		"no such name":    {"HTTP_PROXY=http://proxy.invalid:1", "http://s3.example:9000", []string{"reached by the proxy proxy.invalid:1 (HTTP_PROXY)"}},
		"one for no name": {"HTTP_PROXY=http://user:hunter2@" + there + "\nNO_PROXY=127.0.0.1", "http://127.0.0.1:1", []string{"nothing listens at 127.0.0.1:1"}},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheProxyIsNamed$", "-test.v")
		for _, v := range os.Environ() {
			if name, _, _ := strings.Cut(v, "="); !strings.Contains(strings.ToUpper(name), "_PROXY") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Env = append(append(cmd.Env, variable+"="+c.endpoint), strings.Split(c.set, "\n")...)
		out, err := cmd.CombinedOutput()
		for _, want := range c.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		if strings.Contains(string(out), "hunter2") {
			t.Errorf("%s: the password is repeated: %s", name, out)
		}
	}
}
