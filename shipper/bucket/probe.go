package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// Probe finds out what the storage can do, unless that is known. It puts small objects
// without usages before the first usage is sent.
func (s *s3Store) Probe(ctx context.Context) error {
	t := callOptionsOf(ctx)
	if _, err := s.probe(WithCallOptions(ctx, t)); err != nil {
		return s.fail("put", probeKey, t, err)
	}
	return nil
}

// probe returns what the storage can do. It asks at the first call, and again after
// forget.
func (s *s3Store) probe(ctx context.Context) (*capabilities, error) {
	if current := s.current.Load(); current != nil {
		return current, nil
	}
	current, changed, err := s.probeOnce(ctx)
	if changed {
		s.logger.Info("found out what the storage can do", "destination", s.String(), "conditional_put", current.conditional,
			"checksum", current.checksumName(), "encryption", current.encryptionName())
		if current.classTrouble != "" {
			s.logger.Warn(current.classTrouble, "destination", s.String(), "storage_class", s.storageClass)
		}
	}
	return current, err
}

// probeOnce lets one caller probe while the others wait for the result. changed means
// that the result differs from the one before.
func (s *s3Store) probeOnce(ctx context.Context) (found *capabilities, changed bool, err error) {
	select {
	case s.probing <- struct{}{}:
		defer func() { <-s.probing }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	if found = s.current.Load(); found != nil {
		return found, false, nil
	}
	if found, err = s.findCapabilities(ctx); err != nil {
		return nil, false, s.findRefusedSetting(ctx, err)
	}
	before := s.lastFound.Swap(found)
	s.current.Store(found)
	return found, before == nil || *before != *found, nil
}

// forget makes the next put probe again, after an answer that contradicts the capabilities.
func (s *s3Store) forget(contradicted *capabilities) { s.current.CompareAndSwap(contradicted, nil) }

// ProbeObject returns the object of the probe, the only one that the probe replaces. Its
// bytes never change, since it is read back and an earlier version may have put it.
func ProbeObject() *Object {
	return NewObject(probeKey, []byte(`{"about":"collectord puts this to see whether a put replaces"}`+"\n"))
}

// wrongObject returns an object to be put with a wrong checksum. A storage that verifies
// checksums never stores it. In another, one object stays for each kind of checksum.
func wrongObject(c checksum) *Object {
	return NewObject(fmt.Sprintf(wrongKey, c), []byte(`{"about":"collectord put this with a wrong checksum, and the storage did not refuse it"}`+"\n"))
}

// findCapabilities finds the strongest checksum that the storage verifies. Only proven
// puts count, since a web page may answer, too.
func (s *s3Store) findCapabilities(ctx context.Context) (*capabilities, error) {
	var (
		refused  error
		accepted *capabilities // not verified
	)
	for _, c := range s.candidates {
		conditional, err := s.findConditions(ctx, c)
		verified := c == checksumOff
		if err == nil && !verified {
			verified, err = s.verifiesChecksum(ctx, c, conditional)
		}
		switch {
		case err != nil && isUnsupportedHeader(minio.ToErrorResponse(err)):
			refused = err
		case err != nil:
			return nil, err
		case verified:
			return s.findEffects(ctx, capabilities{conditional: conditional, checksum: c})
		case len(s.candidates) > 1:
			accepted = &capabilities{conditional: conditional, checksum: c, unverified: true}
		}
	}
	if accepted != nil { // the storage refuses a body without a checksum
		return s.findEffects(ctx, *accepted)
	}
	if refused == nil { // a configured checksum is not replaced by a weaker one
		return nil, &proofError{
			kind: Unverified, permanent: true, hint: "set shipper.s3.checksum: auto, which uses what the storage verifies",
			err: fmt.Errorf("the storage accepts a wrong checksum: it does not verify %s", s.candidates[0]),
		}
	}
	return nil, refused
}

// findConditions finds out whether a put can be prevented from replacing. A storage that
// does not support If-None-Match may refuse it, or ignore it.
func (s *s3Store) findConditions(ctx context.Context, c checksum) (conditional bool, err error) {
	put := func(conditional bool) error {
		o := ProbeObject()
		response, err := s.put(ctx, o, putOptions{checksum: c, conditional: conditional})
		if err != nil || s.trustStatus { // findEffects reads it back
			return err
		}
		return s.prove(ctx, o, response, &capabilities{checksum: c})
	}
	for range 2 { // the first put may create the object; the second must be refused
		if err = put(true); err != nil {
			break
		}
	}
	switch resp := minio.ToErrorResponse(err); {
	case resp.StatusCode == http.StatusPreconditionFailed:
		return true, nil
	case isUnsupportedHeader(resp):
		return false, put(false)
	}
	return false, err
}

// maxUnspecificErrors is how many probes may end with a temporary error for a wrong checksum.
// After that the storage counts as not verifying it, since a proxy may answer 502 to each wrong
// checksum.
const maxUnspecificErrors = 8

// verifiesChecksum reports whether the storage refuses an object whose checksum is wrong. A
// temporary error other than a 500 ends the probe without a result, up to maxUnspecificErrors
// times. A storage that answers a wrong checksum only with such errors, and accepts a correct one
// each time, counts as not verifying it.
func (s *s3Store) verifiesChecksum(ctx context.Context, c checksum, conditional bool) (bool, error) {
	for range 4 { // an unspecific error may have another cause
		err := s.putWrongChecksum(ctx, c, conditional)
		resp := minio.ToErrorResponse(err)
		switch {
		case err == nil, isChecksumMismatch(resp):
			delete(s.unspecificErrors, c)
			return err != nil, nil
		case ctx.Err() != nil:
			return false, err
		case s.unspecificErrors[c] < maxUnspecificErrors && (resp.StatusCode == 0 || isTemporary(resp.StatusCode) && resp.StatusCode != http.StatusInternalServerError):
			s.unspecificErrors[c]++
			return false, err
		}
		_, rightErr := s.put(ctx, ProbeObject(), putOptions{checksum: c})
		if rightErr != nil || isUnsupportedHeader(resp) { // the refusal is about the checksum if a right one is accepted
			return rightErr == nil, rightErr
		}
	}
	return false, nil
}

// putWrongChecksum puts an object with a wrong checksum in the way in which usages are put: with
// a condition, under a free key.
func (s *s3Store) putWrongChecksum(ctx context.Context, c checksum, conditional bool) error {
	how := putOptions{checksum: c, wrong: true, conditional: conditional}
	if conditional {
		_, err := s.put(ctx, wrongObject(c), how)
		if minio.ToErrorResponse(err).StatusCode != http.StatusPreconditionFailed {
			return err
		}
		how.conditional = false // the storage accepted it before, so the key is taken
	}
	_, err := s.put(ctx, ProbeObject(), how)
	return err
}

// findEffects checks that the storage does what each put requests.
func (s *s3Store) findEffects(ctx context.Context, found capabilities) (*capabilities, error) {
	o := ProbeObject()
	if s.trustStatus {
		if err := s.readBack(ctx, o); err != nil {
			return nil, err
		}
		found.trusted = true
	}
	if s.sse == nil && s.storageClass == "" {
		return &found, nil
	}
	response, err := s.put(ctx, o, putOptions{checksum: found.checksum})
	if err == nil {
		err = s.prove(ctx, o, response, &found)
	}
	if err == nil {
		found.encryption, err = s.confirmedEncryption(response)
	}
	if err == nil && s.storageClass != "" {
		found.classTrouble, err = s.classTrouble(ctx, o.Key)
	}
	return &found, err
}

// confirmedEncryption returns the encryption that the answer to a put confirms. A later HEAD proves
// nothing: some storages only store the header.
func (s *s3Store) confirmedEncryption(response putResponse) (by string, err error) {
	want := ""
	if s.sse != nil {
		want = map[encrypt.Type]string{encrypt.S3: "AES256", encrypt.KMS: "aws:kms"}[s.sse.Type()]
	}
	if want == "" || want == response.encryption || s.acceptUnconfirmed {
		return response.encryption, nil
	}
	return "", &proofError{
		kind: NotEncrypted, permanent: true,
		hint: "nothing is sent: correct the storage, or empty shipper.s3.sse and encrypt below it; for a gateway that encrypts and does not confirm it, set shipper.s3.sse_unconfirmed: accept",
		err:  fmt.Errorf("the storage accepts shipper.s3.sse and does not confirm that it encrypts: x-amz-server-side-encryption is %.40q in its answer, not %q", response.encryption, want),
	}
}

// classTrouble returns what is wrong with the storage class of an object; empty: nothing.
func (s *s3Store) classTrouble(ctx context.Context, key string) (string, error) {
	info, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if minio.ToErrorResponse(err).StatusCode == http.StatusForbidden {
		return "can't check the storage class of the object: the access key may not look at objects (grant s3:GetObject on this bucket and prefix)", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at the storage class: %w", err)
	}
	// S3 does not return the default class.
	if class := info.Metadata.Get("X-Amz-Storage-Class"); class != s.storageClass && (class != "" || s.storageClass != "STANDARD") {
		return fmt.Sprintf("the storage accepts shipper.s3.storage_class, but reports that the object has the class %.40q (leave shipper.s3.storage_class empty, or use a class that the storage knows)", class), nil
	}
	body, _, _, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == codeArchived {
		return "objects of shipper.s3.storage_class can't be read back before they are restored, by readers, by collectord cat, or by an audit --deep (use a class that can be read)", nil
	}
	if err != nil {
		return "", fmt.Errorf("read back %s: %w", key, err)
	}
	return "", body.Close()
}

// findRefusedSetting finds out whether a failed probe passes without encryption or without the
// storage class. It then returns a *settingError.
func (s *s3Store) findRefusedSetting(ctx context.Context, err error) error {
	refused := refusalCode(err)
	if refused == "" {
		return err
	}
	for _, c := range []struct {
		setting    string
		configured bool
		without    putOptions
	}{
		{settingSSE, s.sse != nil, putOptions{checksum: checksumSHA256, withoutEncryption: true}},
		{settingClass, s.storageClass != "", putOptions{checksum: checksumSHA256, withoutClass: true}},
	} {
		if !c.configured {
			continue
		}
		if _, withoutErr := s.put(ctx, ProbeObject(), c.without); withoutErr != nil {
			continue
		}
		// Only a repeated failure with the setting proves that the setting is the cause.
		if _, again := s.put(ctx, ProbeObject(), putOptions{checksum: checksumSHA256}); refusalCode(again) == refused {
			return &settingError{c.setting, err}
		}
	}
	return err
}

// refusalCode returns the code of an error that a storage answered, or the status if the
// answer is not S3's; empty: another error.
func refusalCode(err error) string {
	var (
		respErr *responseError
		resp    minio.ErrorResponse
	)
	switch {
	case errors.As(err, &respErr) && respErr.code == "" && respErr.status >= 400:
		return strconv.Itoa(respErr.status)
	case errors.As(err, &resp) && resp.StatusCode >= 400:
		return resp.Code
	}
	return ""
}

// settingError means that the storage accepts a put only without a setting.
type settingError struct {
	setting string
	err     error
}

func (e *settingError) Error() string { return "only with " + e.setting + ": " + e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }

// isUnsupportedHeader reports whether an error means that the storage does not support a header.
// Temporary errors and wrong checksums are other errors.
func isUnsupportedHeader(r minio.ErrorResponse) bool {
	switch r.Code {
	case "InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedHeader", "BadRequest", "NotSupported":
		return r.StatusCode >= 400 && !strings.Contains(r.Message, wrongPort)
	}
	return r.StatusCode == http.StatusNotImplemented ||
		r.StatusCode == http.StatusBadRequest && r.Code == fmt.Sprintf("%d %s", r.StatusCode, http.StatusText(r.StatusCode)) // no specific code
}
