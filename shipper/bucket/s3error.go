package bucket

import (
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
)

// meanings of what a storage answers, by code. The codes are those of S3; others
// use them too.
func (s *s3Store) meaning(op string, resp minio.ErrorResponse) (permanent, own bool, hint string) {
	switch resp.Code {
	case minio.NoSuchBucket:
		return true, false, "create the bucket " + s.bucket + ", or correct shipper.destination"
	case "InvalidBucketName":
		return true, false, "correct shipper.destination"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "AuthFailure":
		return true, false, "the access key or its secret is wrong; they are from " + s.keysFrom
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return false, false, "the keys from " + s.keysFrom + " have expired: they are read again"
	case "RequestTimeTooSkewed", "RequestExpired":
		return true, false, "the clocks of this host and the storage differ too much: set this one by NTP"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidRegion", "IllegalLocationConstraintException", "TemporaryRedirect":
		hint = "the bucket is in another region: correct shipper.s3.region or shipper.s3.endpoint"
		if resp.Region != "" {
			hint += "; the storage names " + resp.Region
		}
		return true, false, hint
	case "InvalidStorageClass":
		return true, false, "the storage does not know this shipper.s3.storage_class"
	case "AccountProblem", "NotSignedUp", "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage":
		return true, false, "the storage has no room or no contract for this bucket any more"
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest":
		return false, false, changedOnTheWay
	case "IncompleteBody", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted":
		return false, false, ""
	}
	switch {
	case strings.HasPrefix(resp.Code, "KMS"), strings.HasPrefix(resp.Code, "InvalidEncryption"):
		return true, false, "the storage can't encrypt as shipper.s3.sse says"
	case resp.StatusCode == http.StatusForbidden && op == "put":
		return true, false, "the key needs s3:PutObject on this bucket and prefix; README, Permissions"
	case resp.StatusCode == http.StatusForbidden && op == "list":
		return true, false, "the key needs s3:ListBucket on this bucket; README, Permissions"
	case resp.StatusCode == http.StatusForbidden && s.conditions.Load() == withoutConditions:
		return true, false, "this storage does not support conditional puts and is asked before each upload: the key needs s3:GetObject, and s3:ListBucket; README, Permissions"
	case resp.StatusCode == http.StatusForbidden:
		// Of one object that is there already; the others go on.
		return true, true, "the key needs s3:GetObject on this bucket and prefix, to look at what is there; README, Permissions"
	case resp.StatusCode == http.StatusUnauthorized:
		return true, false, "the storage wants other credentials than those from " + s.keysFrom
	case resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode == http.StatusConflict,
		resp.StatusCode == http.StatusTooEarly, resp.StatusCode == http.StatusTooManyRequests:
		return false, false, ""
	case resp.StatusCode >= 300 && resp.StatusCode < 500:
		return true, false, "the storage will not have the request: is shipper.s3.endpoint an S3 API?"
	}
	return false, false, ""
}

// fail turns an error into one that the caller and people can act on.
func (s *s3Store) fail(op, key string, t *CallOptions, err error) error {
	var (
		resp   minio.ErrorResponse
		answer *responseError
		proof  *proofError
	)
	switch {
	case errors.As(err, &answer) && answer.code != "":
		resp = minio.ErrorResponse{Code: answer.code, StatusCode: answer.status}
		if resp.Code == minio.AccessDenied {
			resp.StatusCode = http.StatusForbidden
		}
	case errors.As(err, &resp):
	}
	if answer == nil && op != "put" && (resp.Code == minio.NoSuchKey || resp.StatusCode == http.StatusNotFound && resp.Code != minio.NoSuchBucket) {
		return ErrNotFound
	}
	e := &Error{Op: op, Key: key, Kind: stable(resp), Err: err, RetryAfter: time.Duration(t.retryAfter.Load())}
	e.Permanent, e.OwnTrouble, e.Hint = s.meaning(op, resp)
	e.Forbidden = resp.StatusCode == http.StatusForbidden && slices.Contains([]string{minio.AccessDenied, "Forbidden", "403 Forbidden", "InvalidObjectState"}, resp.Code)
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		s.keys.Expire() // they may have been changed where they are from
	}
	var (
		netErr  net.Error
		certErr *tls.CertificateVerificationError
		credErr *credentialError
		dnsErr  *net.DNSError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &proof):
		e.Kind, e.Hint, e.Permanent, e.OwnTrouble = proof.kind, proof.hint, proof.permanent, false
		if !proof.permanent { // that is, the storage may be asked
			s.doubted.Store(true)
		}
	case op == "put" && isTooLarge(answer, resp):
		e.Kind, e.Permanent, e.OwnTrouble, e.Hint = TooLarge, true, true, RaiseLimit+", or lower wal.segment_size"
	case s.foreign(answer, resp, err):
		e.Kind, e.Hint, e.Permanent, e.OwnTrouble = NotAStore, notAStoreHint, true, false
	case answer != nil: // an error of S3
	case errors.As(err, &credErr):
		e.Kind, e.Permanent = "credentials", !credErr.had
		e.Hint = "see shipper.s3.credentials_file; README, Destinations"
	case errors.As(err, &certErr):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage's certificate is not trusted, is for another name, or has expired: see shipper.s3.ca_file"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage does not speak TLS: write http:// in shipper.s3.endpoint"
	case strings.Contains(err.Error(), "remote error: tls"):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage ends the TLS handshake"
	case errors.As(err, &dnsErr):
		e.Kind, e.Hint = "dns", "is the name in shipper.s3.endpoint right?"
	case errors.As(err, &netErr) && netErr.Timeout():
		e.Kind = "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Kind, e.Hint = "network", "nothing listens at "+s.client.EndpointURL().Host
	case resp.StatusCode == 0 && errors.As(err, &netErr):
		e.Kind = "network"
	}
	return e
}

// changedOnTheWay is the hint for a checksum that does not agree.
const changedOnTheWay = "bytes changed on their way: a broken disk, memory or network"

const notAStoreHint = "no S3 storage answers at shipper.s3.endpoint: a login or block page of this network, a proxy, or another server"

// errUnlisted is a listing of keys that were not asked for.
var errUnlisted = errors.New("the listing names keys that were not asked for")

// isTooLarge reports whether the object was refused for its size, by the storage or by
// a proxy's page.
func isTooLarge(answer *responseError, resp minio.ErrorResponse) bool {
	return resp.Code == "EntityTooLarge" || resp.StatusCode == http.StatusRequestEntityTooLarge ||
		answer != nil && answer.status == http.StatusRequestEntityTooLarge
}

// foreign reports whether the answer is not S3's.
func (s *s3Store) foreign(answer *responseError, resp minio.ErrorResponse, err error) bool {
	var noXML xml.UnmarshalError
	switch {
	case answer != nil:
		return answer.code == ""
	case errors.Is(err, errUnlisted), errors.As(err, &noXML):
		return true
	case resp.StatusCode == 0 && resp.Code == minio.InternalError: // the library's word for an object without a date
		return true
	}
	// A redirect that does not say where the bucket is.
	return resp.StatusCode/100 == 3 && resp.Region == "" && strings.HasPrefix(resp.Code, strconv.Itoa(resp.StatusCode))
}

// stable makes a kind for metrics of an error code: one of few, whatever the storage
// sends.
func stable(r minio.ErrorResponse) string {
	if r.StatusCode == 0 && r.Code == "" {
		return "other"
	}
	if len(r.Code) == 0 || len(r.Code) > 40 {
		return fmt.Sprintf("http_%d", r.StatusCode)
	}
	for _, c := range []byte(r.Code) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return fmt.Sprintf("http_%d", r.StatusCode)
		}
	}
	return r.Code
}
