package bucket

import (
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
)

// Codes and messages of storages.
const (
	codeArchived = "InvalidObjectState"
	wrongPort    = "must be made to API port" // the console of MinIO
)

// Hints.
const (
	notAStoreHint = "no S3 storage answers at shipper.s3.endpoint: a login or block page of this network, a proxy, the console or filer port of a storage, or another server"
	consoleHint   = "this is the console of MinIO: its S3 API has another port"
	filerHint     = "this is the filer, master or volume server of SeaweedFS: its S3 API has another port"
	noRegionHint  = "the storage was asked for the region of the bucket, and did not return it: set shipper.s3.region (us-east-1 if the storage has no regions)"
)

// Settings that a storage may not support.
const (
	settingSSE   = "shipper.s3.sse"
	settingClass = "shipper.s3.storage_class"
)

// errorMeaning returns what an error code of a storage means: whether it is permanent, whether
// it concerns only this object, and a hint. Other storages use the codes of S3, too.
func (s *s3Store) errorMeaning(op string, resp minio.ErrorResponse) (permanent, thisObjectOnly bool, hint string) {
	switch resp.Code {
	case minio.NoSuchBucket:
		return true, false, "create the bucket " + s.bucket + ", or correct shipper.destination"
	case "InvalidBucketName":
		return true, false, "correct shipper.destination"
	case "InvalidAccessKeyId", "InvalidClientTokenId", "AuthFailure", "XAdminUserNotFound":
		return true, false, "the access key or its secret is wrong: correct them; they are from " + s.provider.source()
	case "SignatureDoesNotMatch":
		return true, false, "the access key or its secret is wrong (they are from " + s.provider.source() + "), or a proxy before the storage changes Host, which is signed (nginx: proxy_set_header Host $http_host)"
	case "InvalidToken", "InvalidTokenId":
		return true, false, "the session token is wrong or stale: replace or remove " + s.tokenSource()
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return false, false, "the keys from " + s.provider.source() + " have expired: they are read again; replace them there if this lasts"
	case "RequestTimeTooSkewed", "RequestExpired":
		return true, false, "the clocks of this host and the storage differ too much: synchronize this host's clock by NTP"
	case "InvalidStorageClass":
		return true, false, "the storage does not know this shipper.s3.storage_class"
	case codeArchived:
		return true, true, "the object is in a storage class that can't be read before it is restored: restore it, and use another shipper.s3.storage_class"
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage":
		return true, false, "the storage has no room for this bucket any more: make room, or raise its quota"
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest":
		return false, false, changedInTransitHint
	case "IncompleteBody", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted":
		return false, false, ""
	}
	switch {
	case isOtherRegion(resp.Code):
		hint = "the bucket is in another region: correct shipper.s3.region or shipper.s3.endpoint"
		if resp.Region != "" {
			hint += "; the storage names " + resp.Region
		}
		return true, false, hint
	case isAccountTrouble(resp.Code):
		return true, false, "the account of this key is not signed up for the storage, or is suspended: ask the provider"
	case isAboutEncryption(resp):
		return true, false, s.settingHint(&settingError{setting: settingSSE}, resp)
	case resp.StatusCode == http.StatusForbidden && op == "put":
		return true, false, "the key needs s3:PutObject on this bucket and prefix; docs/storages.md, Permissions"
	case resp.StatusCode == http.StatusForbidden && op == "list":
		return true, false, "the key needs s3:ListBucket on this bucket; docs/storages.md, Permissions"
	case resp.StatusCode == http.StatusForbidden && s.statsBeforePut():
		return true, false, "this storage has no conditional put, so a request precedes each upload: the key needs s3:GetObject, and s3:ListBucket; docs/storages.md, Permissions"
	case resp.StatusCode == http.StatusForbidden:
		// Only an object that exists already is affected; the others go on.
		return true, true, "the key needs s3:GetObject on this bucket and prefix, to look at the existing object; docs/storages.md, Permissions"
	case resp.StatusCode == http.StatusUnauthorized:
		return true, false, "the storage wants other credentials than those from " + s.provider.source()
	case resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode == http.StatusConflict,
		resp.StatusCode == http.StatusTooEarly, resp.StatusCode == http.StatusTooManyRequests:
		return false, false, ""
	case resp.StatusCode >= 300 && resp.StatusCode < 500:
		return true, false, "the storage refuses the request: is shipper.s3.endpoint an S3 API?"
	}
	return false, false, ""
}

// statsBeforePut reports whether a Stat precedes each put, since the storage lacks conditional
// puts.
func (s *s3Store) statsBeforePut() bool {
	current := s.current.Load()
	return current != nil && !current.conditional
}

// tokenSource returns the source of the session token.
func (s *s3Store) tokenSource() string {
	if s.provider.from == fromEnvironment {
		return "AWS_SESSION_TOKEN"
	}
	return "aws_session_token, which is from " + s.provider.source()
}

// isAboutKeys reports whether the code is about the keys, regardless of the request.
func isAboutKeys(code string) bool {
	switch code {
	case "InvalidAccessKeyId", "InvalidClientTokenId", "AuthFailure", "XAdminUserNotFound", "SignatureDoesNotMatch",
		"InvalidToken", "InvalidTokenId", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestTimeTooSkewed", "RequestExpired":
		return true
	}
	return false
}

func isAboutEncryption(r minio.ErrorResponse) bool {
	code := strings.ToLower(r.Code)
	return strings.HasPrefix(code, "kms") || strings.HasPrefix(code, "invalidencryption") || strings.HasPrefix(code, "serversideencryption") ||
		strings.Contains(r.Message, "KMS is not configured")
}

// settingHint returns why a storage does not do what a setting requests.
func (s *s3Store) settingHint(e *settingError, r minio.ErrorResponse) string {
	const can = "the storage can't encrypt as shipper.s3.sse requests: "
	switch {
	case e.setting == settingClass:
		return "the storage does not know this shipper.s3.storage_class"
	case strings.Contains(r.Message, "KMS is not configured"):
		return can + "it has no KMS (MinIO: MINIO_KMS_SECRET_KEY or MINIO_KMS_KES_*)"
	case strings.Contains(r.Code, "KeyNotFound"), strings.Contains(r.Code, "NotFoundException"):
		return can + "its KMS does not know this key"
	case strings.HasPrefix(strings.ToLower(r.Code), "kms"):
		return can + "its KMS is not configured, or the key is disabled or may not be used"
	case r.StatusCode == http.StatusForbidden:
		return can + "the access key may not use the key of KMS: kms:GenerateDataKey and kms:Decrypt"
	case r.StatusCode == http.StatusNotImplemented:
		return can + "it has no encryption (leave the key empty, and encrypt below the storage)"
	case r.StatusCode >= http.StatusInternalServerError:
		return can + "its encryption is not configured (SeaweedFS: WEED_S3_SSE_KEK)"
	case s.client.EndpointURL().Scheme == "http":
		return can + "Ceph does so over https only (rgw_crypt_require_ssl), and needs a key for kms (kms:KEY)"
	}
	return can + "Ceph needs rgw_crypt_sse_s3_backend for s3, and for kms a key that its KMS has (kms:KEY)"
}

// foreignHint returns which server may have answered instead of the storage.
func (s *s3Store) foreignHint(respErr *responseError, t *CallOptions) string {
	hint := notAStoreHint
	switch {
	case respErr == nil:
	case strings.HasPrefix(respErr.server, "SeaweedFS"):
		hint = joinHints(hint, filerHint)
	case strings.HasPrefix(respErr.server, "MinIO Console"):
		hint = joinHints(hint, consoleHint)
	}
	if t.noRegion.Load() {
		hint = joinHints(hint, noRegionHint)
	}
	return joinHints(hint, s.proxyHint())
}

// proxyHint names the proxy that may have answered instead of the storage; empty: none.
func (s *s3Store) proxyHint() string {
	if name := s.proxyName(); name != "" {
		return "the storage is reached by the proxy " + name
	}
	return ""
}

func joinHints(hint, more string) string {
	if hint == "" || more == "" {
		return hint + more
	}
	return hint + "; " + more
}

// isAccountTrouble reports whether the code is about the account of the keys.
func isAccountTrouble(code string) bool {
	switch code {
	case "NotSignedUp", "AccountProblem", "InvalidPayer", "AllAccessDisabled":
		return true
	}
	return false
}

// isOtherRegion reports whether the code means that the bucket is in another region.
func isOtherRegion(code string) bool {
	switch code {
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidRegion", "IllegalLocationConstraintException", "TemporaryRedirect":
		return true
	}
	return false
}
