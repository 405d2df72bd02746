package bucket

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// recorded is an answer of a storage.
type recorded struct {
	status                    int
	server, contentType       string
	body                      string
	sse, class                string // settings in effect; only requests with them get this answer
	forRegion                 bool   // the answer is to the request for the region
	wantKind, hint            string
	temporary, thisObjectOnly bool
}

func errorXML(code, message string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message + "</Message><BucketName>bucket</BucketName></Error>"
}

// TestHintsNameTheCause: each answer was recorded, or is from the storage's documentation.
// The answers of S3Mock, s3proxy and Swift are in testdata/answers.
func TestHintsNameTheCause(t *testing.T) {
	t.Parallel()
	const (
		xml         = "application/xml"
		unknownSSE  = "A header you provided implies functionality that is not implemented"
		signature   = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
		weed        = "SeaweedFS 8000GB 4.48"
		cantEncrypt = "the storage can't encrypt as shipper.s3.sse requests: "
	)
	for name, c := range map[string]recorded{
		"a wrong secret, or a proxy that changes Host": {
			status: 403, contentType: xml, body: errorXML("SignatureDoesNotMatch", signature), wantKind: "SignatureDoesNotMatch", hint: "a proxy before the storage changes Host",
		},
		"Ceph: no message": {status: 403, contentType: xml, body: "<Error><Code>SignatureDoesNotMatch</Code><RequestId>tx0</RequestId></Error>", wantKind: "SignatureDoesNotMatch", hint: "changes Host"},
		"versitygw: unknown key": {
			status: 404, server: "VERSITYGW", contentType: xml, body: errorXML("XAdminUserNotFound", "No user exists with the provided access key ID."),
			wantKind: "XAdminUserNotFound", hint: "the access key or its secret is wrong",
		},
		"MinIO: no KMS": {
			status: 501, server: "MinIO", contentType: xml, sse: "s3", wantKind: "NotImplemented", hint: cantEncrypt + "it has no KMS (MinIO: MINIO_KMS_SECRET_KEY",
			body: errorXML("NotImplemented", "Server side encryption specified but KMS is not configured (KMS not configured for a server side encrypted objects)"),
		},
		"MinIO: unknown key of KMS": {
			status: 404, server: "MinIO", contentType: xml, sse: "kms:nokey", wantKind: "http_404", hint: cantEncrypt + "its KMS does not know this key",
			body: errorXML("kms:KeyNotFound", "key with given key ID does not exist"),
		},
		"Ceph: encryption over http": {
			status: 400, contentType: xml, sse: "s3", body: "<Error><Code>InvalidRequest</Code><RequestId>tx0</RequestId></Error>",
			wantKind: "InvalidRequest", hint: cantEncrypt + "Ceph does so over https only (rgw_crypt_require_ssl)",
		},
		"Ceph: no key for KMS": {
			status: 400, contentType: xml, sse: "kms", body: errorXML("InvalidArgument", "Server Side Encryption with KMS managed key requires HTTP header x-amz-server-side-encryption-aws-kms-key-id"),
			wantKind: "InvalidArgument", hint: "needs a key for kms (kms:KEY)",
		},
		"SeaweedFS: no key for encryption": {
			status: 500, server: weed, contentType: xml, sse: "s3", body: errorXML("InternalError", "We encountered an internal error, please try again."),
			wantKind: "InternalError", hint: cantEncrypt + "its encryption is not configured (SeaweedFS: WEED_S3_SSE_KEK)",
		},
		"JuiceFS: no encryption": {
			status: 501, server: "MinIO", contentType: xml, sse: "kms", body: errorXML("NotImplemented", unknownSSE),
			wantKind: "NotImplemented", hint: cantEncrypt + "it has no encryption (leave the key empty",
		},
		"AWS: KMS is disabled": {status: 400, contentType: xml, sse: "kms:a", body: errorXML("KMS.DisabledException", "arn:aws:kms:eu-central-1:1:key/a is disabled."), wantKind: "http_400", hint: cantEncrypt + "its KMS"},
		"AWS: unknown key of KMS": {
			status: 400, contentType: xml, sse: "kms:a", body: errorXML("KMS.NotFoundException", "Invalid keyId a"), wantKind: "http_400", hint: "its KMS does not know this key",
		},
		"AWS: a key of KMS without permission": {
			status: 403, contentType: xml, sse: "kms:a", body: errorXML("AccessDenied", "User: arn:aws:iam::1:user/x is not authorized to perform: kms:GenerateDataKey on resource: a"),
			wantKind: "AccessDenied", hint: "kms:GenerateDataKey and kms:Decrypt",
		},
		"MinIO: unknown class":   {status: 400, server: "MinIO", contentType: xml, class: "NOSUCH", body: errorXML("InvalidStorageClass", "Invalid storage class."), wantKind: "InvalidStorageClass", hint: "shipper.s3.storage_class"},
		"Ceph: unknown class":    {status: 400, contentType: xml, class: "NOSUCH", body: "<Error><Code>InvalidArgument</Code></Error>", wantKind: "InvalidArgument", hint: "the storage does not know this shipper.s3.storage_class"},
		"JuiceFS: unknown class": {status: 400, server: "MinIO", contentType: xml, class: "STANDARD_IA", body: errorXML("InvalidStorageClass", "Invalid storage class."), wantKind: "InvalidStorageClass", hint: "shipper.s3.storage_class"},
		"an archived object": {
			status: 403, contentType: xml, body: errorXML("InvalidObjectState", "The operation is not valid for the object's storage class"),
			wantKind: "InvalidObjectState", hint: "can't be read before it is restored", thisObjectOnly: true,
		},
		"a server that fails at the request for the region": {
			status: 500, contentType: "application/json", forRegion: true, temporary: true,
			body: `{"timestamp":"2026-11-23T08:00:00.000+00:00","status":500,"error":"Internal Server Error","path":"/bucket/"}`, wantKind: "http_500", hint: "set shipper.s3.region",
		},
		"a region that is not allowed":                           {status: 400, contentType: xml, forRegion: true, body: errorXML("InvalidRequest", "Unsupported"), wantKind: "InvalidRequest", hint: "set shipper.s3.region"},
		"a server that does not know the request for the region": {status: 404, contentType: "application/json", forRegion: true, body: `{"error":"Not Found"}`, wantKind: NotAStore, hint: "set shipper.s3.region"},
		"MinIO: the console's port": {
			status: 400, contentType: "text/xml; charset=utf-8", body: errorXML("InvalidArgument", "S3 API Requests must be made to API port."),
			wantKind: NotAStore, hint: "this is the console of MinIO: its S3 API has another port",
		},
		"MinIO: the console's page": {
			status: 200, server: "MinIO Console", contentType: "text/html", body: "<!doctype html><html><head><title>MinIO Console</title></head><body>You need to enable JavaScript</body></html>",
			wantKind: NotAStore, hint: "this is the console of MinIO",
		},
		"SeaweedFS: the filer's port":  {status: 201, server: weed, contentType: "application/json", body: `{"name":"conditional-put.json","size":67}`, wantKind: NotAStore, hint: "this is the filer, master or volume server of SeaweedFS"},
		"SeaweedFS: the volume's port": {status: 400, server: "SeaweedFS Volume 8000GB 4.48", contentType: "application/json", body: `{"error":"strconv.ParseUint: parsing \"usages\": invalid syntax"}`, wantKind: NotAStore, hint: "volume server of SeaweedFS"},
		"SeaweedFS: the master's port": {status: 404, contentType: "text/plain; charset=utf-8", body: "404 page not found\n", wantKind: NotAStore, hint: "console or filer port"},
		"a WebDAV server":              {status: 201, wantKind: NotAStore, hint: "another server"},
		"AWS: no account": {
			status: 403, contentType: xml, body: errorXML("NotSignedUp", "Your account is not signed up for the Amazon S3 service. You must sign up before you can use Amazon S3."),
			wantKind: "NotSignedUp", hint: "not signed up",
		},
		"MinIO: a stale token": {
			status: 403, server: "MinIO", contentType: xml, body: errorXML("InvalidTokenId", "The security token included in the request is invalid"),
			wantKind: "InvalidTokenId", hint: "the session token is wrong or stale: replace or remove aws_session_token",
		},
		"versitygw: a stale token": {
			status: 400, server: "VERSITYGW", contentType: xml, body: errorXML("InvalidToken", "The provided token is malformed or otherwise invalid."),
			wantKind: "InvalidToken", hint: "aws_session_token, which is from ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t, func(o *S3Options) {
				o.SSE, o.StorageClass = c.sse, c.class
				if c.forRegion {
					o.Region = ""
				}
			})
			f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
				if c.sse != "" && r.Header.Get("X-Amz-Server-Side-Encryption") == "" || c.class != "" && r.Header.Get("X-Amz-Storage-Class") == "" ||
					c.forRegion != r.URL.Query().Has("location") {
					return false
				}
				w.Header().Set("Content-Type", c.contentType)
				if c.server != "" {
					w.Header().Set("Server", c.server)
					w.Header().Set("X-Amz-Request-Id", "18EBB4CFE3AB49EE")
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
				return true
			}})
			var e *Error
			err := s.Put(t.Context(), testObject("a", "x"))
			if !errors.As(err, &e) || e.Kind != c.wantKind || e.Permanent == c.temporary || e.ThisObjectOnly != c.thisObjectOnly || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%+v", err)
			}
			if _, sent := f.Objects()["data/a"]; sent || s.current.Load() != nil {
				t.Error("a usage was sent, or the capabilities were set")
			}
		})
	}
}

// TestHintsForRealStorages checks some rows of TestHintsNameTheCause with real storages.
func TestHintsForRealStorages(t *testing.T) {
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
		if err := s.Put(t.Context(), testObject("a", "x")); !errors.As(err, &e) || e.Kind != c.kind || !e.Permanent || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnUnknownRegionIsNotAMissingObject: a missing object would be sent again.
func TestAnUnknownRegionIsNotAMissingObject(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.Region = "" })
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Query().Has("location") && s3test.Error(w, http.StatusNotFound, "NoSuchKey")
	}})
	var e *Error
	if _, err := s.Stat(t.Context(), "a"); !errors.As(err, &e) || !strings.Contains(e.Hint, "set shipper.s3.region") {
		t.Error(err)
	}
}

// TestATemporaryFailureIsNotBlamedOnASetting has a storage in which a put without the setting
// happens to succeed.
func TestATemporaryFailureIsNotBlamedOnASetting(t *testing.T) {
	for _, status := range []int{400, 403, 500, 501, 503} {
		f, s := newFake(t, func(o *S3Options) { o.SSE, o.StorageClass = "s3", "STANDARD_IA" })
		passed := false
		f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			passed = passed || r.Header.Get("X-Amz-Server-Side-Encryption") == "" // the cause is corrected meanwhile
			return !passed && s3test.Error(w, status, "Trouble")
		}})
		if err := s.Probe(t.Context()); err == nil || strings.Contains(err.Error(), "shipper.s3.sse") {
			t.Errorf("%d: %v", status, err)
		}
	}
}
