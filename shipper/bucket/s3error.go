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

// fail converts an error to ErrNotFound or an *Error.
func (s *s3Store) fail(op, key string, t *CallOptions, err error) error {
	var (
		resp    minio.ErrorResponse
		respErr *responseError
		proof   *proofError
		setting *settingError
	)
	switch {
	case errors.As(err, &respErr) && respErr.code != "":
		resp = minio.ErrorResponse{Code: respErr.code, StatusCode: respErr.status}
		if resp.Code == minio.AccessDenied {
			resp.StatusCode = http.StatusForbidden
		}
	case errors.As(err, &resp):
	}
	if respErr == nil && op != "put" && !t.noRegion.Load() && (resp.Code == minio.NoSuchKey || resp.StatusCode == http.StatusNotFound && resp.Code != minio.NoSuchBucket) {
		return ErrNotFound
	}
	e := &Error{Op: op, Key: key, Kind: metricKind(resp), Err: err, RetryAfter: time.Duration(t.retryAfter.Load())}
	e.Permanent, e.ThisObjectOnly, e.Hint = s.errorMeaning(op, resp)
	e.Forbidden = resp.StatusCode == http.StatusForbidden && slices.Contains([]string{minio.AccessDenied, "Forbidden", "403 Forbidden", "InvalidObjectState"}, resp.Code)
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		s.keys.Expire() // they may have been changed at their source
	}
	switch {
	case errors.Is(err, errRepeats), errors.Is(err, errPrefixes), errors.Is(err, errUnlisted), errors.Is(err, errHugePage), isEndless(op, resp):
		e.Kind, e.Hint, e.Permanent, e.ThisObjectOnly = "listing", listingHint, true, false
	case errors.As(err, &proof):
		e.Kind, e.Hint, e.Permanent, e.ThisObjectOnly = proof.kind, proof.hint, proof.permanent, false
		// The storage allows reading but does not have the object that was put, so the storage's
		// metadata is not trusted any more. Heartbeats do not count: some storages return the old
		// version after a replacement.
		if !proof.permanent && !strings.HasPrefix(key, HeartbeatPrefix) {
			s.proofFailed.Store(true)
		}
	case op == "put" && isTooLarge(respErr, resp):
		e.Kind, e.Permanent, e.ThisObjectOnly, e.Hint = TooLarge, true, true, RaiseLimit+", or lower wal.segment_size"
	case strings.Contains(resp.Message, wrongPort):
		e.Kind, e.Hint, e.Permanent, e.ThisObjectOnly = NotAStore, joinHints(notAStoreHint, consoleHint), true, false
	case errors.As(err, &setting):
		if respErr != nil { // a server in front of the storage, or a library in it, rejects the value
			resp.StatusCode = respErr.status
		}
		e.Kind, e.Permanent, e.ThisObjectOnly, e.Hint = metricKind(resp), true, false, s.settingHint(setting, resp)
	case s.isForeign(respErr, resp, err):
		e.Kind, e.Hint, e.Permanent, e.ThisObjectOnly = NotAStore, s.foreignHint(respErr, t), true, false
	case resp.StatusCode == http.StatusNotImplemented && t.withToken.Load() && e.Hint == "":
		e.Permanent, e.Hint = true, "the storage knows no session tokens: remove "+s.tokenSource()
	case respErr != nil: // an error of S3
	default:
		s.explainConnection(e, resp.StatusCode)
	}
	if t.noRegion.Load() && (!isTemporary(resp.StatusCode) || resp.StatusCode == http.StatusInternalServerError) && resp.Code != minio.NoSuchBucket && !isAboutKeys(resp.Code) && e.Kind != NotAStore {
		e.Hint = noRegionHint
	}
	if e.Hint == "" {
		e.Hint = waitHint
		if e.Kind == "network" || e.Kind == Timeout {
			e.Hint = "check whether the storage runs and answers, and the network between this host and " + s.client.EndpointURL().Host
		}
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Hint = joinHints(e.Hint, s.proxyHint())
	}
	return e
}

// explainConnection completes an error of the connection, the proxy, TLS or the credentials.
// status is the HTTP status of the answer, or 0 if there was none.
func (s *s3Store) explainConnection(e *Error, status int) {
	var (
		netErr  net.Error
		certErr *tls.CertificateVerificationError
		credErr *credentialError
		dnsErr  *net.DNSError
		record  tls.RecordHeaderError
	)
	err := e.Err
	switch {
	case isProxyError(err):
		e.Kind, e.Permanent, e.Hint = "proxy", false, "the storage is reached by the proxy "+s.proxyName()+": check the proxy, correct the variable, or name the storage in NO_PROXY"
	case errors.As(err, &credErr):
		e.Kind, e.Permanent = "credentials", !credErr.hadKeys
		e.Hint = credErr.hint()
	case errors.As(err, &certErr):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage's certificate is not trusted, is for another name, or has expired: see shipper.s3.ca_file"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage does not speak TLS: write http:// in shipper.s3.endpoint"
	case strings.Contains(err.Error(), "server response headers exceeded"):
		e.Kind, e.Permanent, e.ThisObjectOnly, e.Hint = "header", true, true, "the storage answers with a header that is too large: look at the object's metadata"
	case strings.Contains(err.Error(), "remote error: tls"):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage ends the TLS handshake: see its log, and whether it asks for a client certificate"
	case errors.As(err, &dnsErr):
		e.Kind, e.Hint = "dns", dnsHint(s.client.EndpointURL().Hostname())
	case errors.As(err, &netErr) && netErr.Timeout():
		e.Kind = Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Kind, e.Hint = "network", "nothing listens at "+s.client.EndpointURL().Host+": start the storage, or correct shipper.s3.endpoint"
	case status == 0 && errors.As(err, &netErr):
		e.Kind = "network"
	}
}

// waitHint is the hint for an error that usually ends by itself.
const waitHint = "wait; if it lasts, check the storage: its log, or its provider, can explain the error"

// changedInTransitHint is the hint for a checksum that differs.
const changedInTransitHint = "bytes changed on their way: a broken disk, memory or network"

// isTooLarge reports whether the storage, or a proxy's page, refused the object because
// of its size.
func isTooLarge(respErr *responseError, resp minio.ErrorResponse) bool {
	return resp.Code == "EntityTooLarge" || resp.StatusCode == http.StatusRequestEntityTooLarge ||
		respErr != nil && respErr.status == http.StatusRequestEntityTooLarge
}

// isEndless reports whether the library found a page of a listing that announces another page and
// does not name it.
func isEndless(op string, resp minio.ErrorResponse) bool {
	return op == "list" && resp.Code == minio.NotImplemented && resp.StatusCode == 0
}

// isForeign reports whether the answer is not S3's.
func (s *s3Store) isForeign(respErr *responseError, resp minio.ErrorResponse, err error) bool {
	var noXML xml.UnmarshalError
	switch {
	case respErr != nil:
		return respErr.code == ""
	case errors.As(err, &noXML):
		return true
	case resp.StatusCode == 0 && resp.Code == minio.InternalError: // the library returns this for an object without a date
		return true
	}
	// This is a redirect that does not name the bucket's region.
	return resp.StatusCode/100 == 3 && resp.Region == "" && strings.HasPrefix(resp.Code, strconv.Itoa(resp.StatusCode))
}

// metricKind converts an error code to a kind for metrics. A code that is not a short word
// becomes http_ and the status, since the storage chooses its codes.
func metricKind(r minio.ErrorResponse) string {
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

// dnsHint explains that the name of the storage is not found.
func dnsHint(host string) string {
	if strings.HasSuffix(host, "amazonaws.com") { // the default
		return "is this host to reach AWS? For another storage, set shipper.s3.endpoint"
	}
	return "is the name in shipper.s3.endpoint right?"
}
