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

// Probe asks the storage what it can do, unless that is known. Small objects that hold
// no usage are put for it, before the first usage is.
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
	if can := s.known.Load(); can != nil {
		return can, nil
	}
	can, changed, err := s.probeOnce(ctx)
	if changed {
		s.log.Info("found out what the storage can do", "destination", s.String(), "conditional_put", can.conditional,
			"checksum", can.checksumName(), "encryption", can.encryptionName())
		if can.classTrouble != "" {
			s.log.Warn(can.classTrouble, "destination", s.String(), "storage_class", s.storageClass)
		}
	}
	return can, err
}

// probeOnce lets one caller probe, and the others wait for what it finds. It reports
// whether that differs from what was found before.
func (s *s3Store) probeOnce(ctx context.Context) (can *capabilities, changed bool, err error) {
	select {
	case s.probing <- struct{}{}:
		defer func() { <-s.probing }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	if can = s.known.Load(); can != nil {
		return can, false, nil
	}
	if can, err = s.findCapabilities(ctx); err != nil {
		return nil, false, s.blameSetting(ctx, err)
	}
	before := s.found.Swap(can)
	s.known.Store(can)
	return can, before == nil || *before != *can, nil
}

// forget makes the next put probe again, after an answer that contradicts what is known.
func (s *s3Store) forget(can *capabilities) { s.known.CompareAndSwap(can, nil) }

// ProbeObject may replace itself, and nothing else is ever replaced to find something out.
// Its bytes never change, since it is read back and may be from an earlier version.
func ProbeObject() *Object {
	return NewObject(probeKey, []byte(`{"about":"collectord puts this to see whether a put replaces"}`+"\n"))
}

// wrongObject is put with a wrong checksum. A storage that verifies checksums never has
// it; in another it is left, once for each kind of checksum.
func wrongObject(c checksum) *Object {
	return NewObject(fmt.Sprintf(wrongKey, c), []byte(`{"about":"collectord put this with a wrong checksum, and the storage did not refuse it"}`+"\n"))
}

// findCapabilities looks for the strongest checksum that the storage verifies. Only
// answers that are proven count, not those of a web page.
func (s *s3Store) findCapabilities(ctx context.Context) (*capabilities, error) {
	var (
		refused  error
		accepted *capabilities // although not verified
	)
	for _, c := range s.candidates {
		conditional, err := s.findConditions(ctx, c)
		verified := c == checksumOff
		if err == nil && !verified {
			verified, err = s.verifies(ctx, c, conditional)
		}
		switch {
		case err != nil && refuses(minio.ToErrorResponse(err)):
			refused = err
		case err != nil:
			return nil, err
		case verified:
			return s.findEffects(ctx, capabilities{conditional: conditional, checksum: c})
		case len(s.candidates) > 1:
			accepted = &capabilities{conditional: conditional, checksum: c, unverified: true}
		}
	}
	if accepted != nil { // a body without a checksum was refused
		return s.findEffects(ctx, *accepted)
	}
	if refused == nil { // it is not to be replaced by a weaker one
		return nil, &proofError{
			kind: Unverified, permanent: true, hint: "set shipper.s3.checksum: auto, which uses what the storage verifies",
			err: fmt.Errorf("the storage accepts a wrong checksum: it does not verify %s", s.candidates[0]),
		}
	}
	return nil, refused
}

// findConditions asks whether a put can be made to not replace. A storage that does not
// know If-None-Match may refuse it, or, worse, take no notice.
func (s *s3Store) findConditions(ctx context.Context, c checksum) (conditional bool, err error) {
	put := func(conditional bool) error {
		o := ProbeObject()
		answer, err := s.put(ctx, o, putOptions{checksum: c, conditional: conditional})
		if err != nil || s.trustAnswers { // it is read back later
			return err
		}
		return s.prove(ctx, o, answer, &capabilities{checksum: c})
	}
	for range 2 { // it was not there, or it was replaced
		if err = put(true); err != nil {
			break
		}
	}
	switch resp := minio.ToErrorResponse(err); {
	case resp.StatusCode == http.StatusPreconditionFailed:
		return true, nil
	case refuses(resp):
		return false, put(false)
	}
	return false, err
}

// maxUnclear is how many probes end without an answer to a wrong checksum before that is
// taken for the answer: what is behind a proxy may have it say 502 to each.
const maxUnclear = 8

// verifies reports whether the storage refuses an object whose checksum is wrong. A
// temporary error is no answer, but one is, at once if it is 500, if the storage answers
// nothing else to a wrong checksum, and takes a right one each time.
func (s *s3Store) verifies(ctx context.Context, c checksum, conditional bool) (bool, error) {
	for range 4 { // an answer that does not say what is wrong may be about something else
		err := s.putWrong(ctx, c, conditional)
		resp := minio.ToErrorResponse(err)
		switch {
		case err == nil, mismatches(resp):
			delete(s.unclear, c)
			return err != nil, nil
		case ctx.Err() != nil:
			return false, err
		case s.unclear[c] < maxUnclear && (resp.StatusCode == 0 || temporary(resp.StatusCode) && resp.StatusCode != http.StatusInternalServerError):
			s.unclear[c]++
			return false, err
		}
		_, rightErr := s.put(ctx, ProbeObject(), putOptions{checksum: c})
		if rightErr != nil || refuses(resp) { // it is about the checksum if a right one is accepted
			return rightErr == nil, rightErr
		}
	}
	return false, nil
}

// putWrong puts an object with a wrong checksum, as a usage's would be put: with a
// condition, under a key that is free.
func (s *s3Store) putWrong(ctx context.Context, c checksum, conditional bool) error {
	how := putOptions{checksum: c, wrong: true, conditional: conditional}
	if conditional {
		_, err := s.put(ctx, wrongObject(c), how)
		if minio.ToErrorResponse(err).StatusCode != http.StatusPreconditionFailed {
			return err
		}
		how.conditional = false // the storage has accepted it once: it is not free
	}
	_, err := s.put(ctx, ProbeObject(), how)
	return err
}

// findEffects looks whether the storage does what it is asked to do with each object.
func (s *s3Store) findEffects(ctx context.Context, can capabilities) (*capabilities, error) {
	o := ProbeObject()
	if s.trustAnswers {
		if err := s.readBack(ctx, o); err != nil {
			return nil, err
		}
		can.trusted = true
	}
	if s.sse == nil && s.storageClass == "" {
		return &can, nil
	}
	answer, err := s.put(ctx, o, putOptions{checksum: can.checksum})
	if err == nil {
		err = s.prove(ctx, o, answer, &can)
	}
	if err == nil {
		can.encryption, err = s.encrypted(answer)
	}
	if err == nil && s.storageClass != "" {
		can.classTrouble, err = s.classTrouble(ctx, o.Key)
	}
	return &can, err
}

// encrypted returns the encryption that the answer to a put confirms. What HEAD says
// later confirms nothing: some storages only keep the header.
func (s *s3Store) encrypted(answer putAnswer) (by string, err error) {
	want := ""
	if s.sse != nil {
		want = map[encrypt.Type]string{encrypt.S3: "AES256", encrypt.KMS: "aws:kms"}[s.sse.Type()]
	}
	if want == "" || want == answer.encryption || s.acceptUnconfirmed {
		return answer.encryption, nil
	}
	return "", &proofError{
		kind: NotEncrypted, permanent: true,
		hint: "nothing is sent: correct the storage, or empty shipper.s3.sse and encrypt below it; for a gateway that encrypts and does not say so, set shipper.s3.sse_unconfirmed: accept",
		err:  fmt.Errorf("the storage accepts shipper.s3.sse and does not confirm that it encrypts: x-amz-server-side-encryption is %.40q in its answer, not %q", answer.encryption, want),
	}
}

// classTrouble says what is wrong with the storage class of an object; empty: nothing.
func (s *s3Store) classTrouble(ctx context.Context, key string) (string, error) {
	info, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if minio.ToErrorResponse(err).StatusCode == http.StatusForbidden {
		return "can't see what became of shipper.s3.storage_class: the key may not look at objects (grant s3:GetObject on this bucket and prefix)", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at the storage class: %w", err)
	}
	// S3 does not return the class that is the default.
	if class := info.Metadata.Get("X-Amz-Storage-Class"); class != s.storageClass && (class != "" || s.storageClass != "STANDARD") {
		return fmt.Sprintf("the storage accepts shipper.s3.storage_class and says that the object has %.40q (leave the key empty, or use a class that the storage knows)", class), nil
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

// blameSetting finds out whether a probe that the storage refused, or failed at, passes without
// encryption or without the storage class.
func (s *s3Store) blameSetting(ctx context.Context, err error) error {
	refused := refusal(err)
	if refused == "" {
		return err
	}
	for _, c := range []struct {
		setting string
		asked   bool
		without putOptions
	}{
		{settingSSE, s.sse != nil, putOptions{checksum: checksumSHA256, unencrypted: true}},
		{settingClass, s.storageClass != "", putOptions{checksum: checksumSHA256, unclassed: true}},
	} {
		if !c.asked {
			continue
		}
		if _, withoutErr := s.put(ctx, ProbeObject(), c.without); withoutErr != nil {
			continue
		}
		// It is the setting if it fails again with it, and not the moment.
		if _, again := s.put(ctx, ProbeObject(), putOptions{checksum: checksumSHA256}); refusal(again) == refused {
			return &settingError{c.setting, err}
		}
	}
	return err
}

// refusal is the code, or, of an answer that is not S3's, the status of an error that a
// storage answered; empty: it is another error.
func refusal(err error) string {
	var (
		answer *responseError
		resp   minio.ErrorResponse
	)
	switch {
	case errors.As(err, &answer) && answer.code == "" && answer.status >= 400:
		return strconv.Itoa(answer.status)
	case errors.As(err, &resp) && resp.StatusCode >= 400:
		return resp.Code
	}
	return ""
}

// settingError means that the storage accepts a put without what a setting asks for, and not
// with it.
type settingError struct {
	setting string
	err     error
}

func (e *settingError) Error() string { return "only with " + e.setting + ": " + e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }

// refuses tells a storage that does not know a header from one that is in
// trouble, or found the bytes to be wrong.
func refuses(r minio.ErrorResponse) bool {
	switch r.Code {
	case "InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedHeader", "BadRequest", "NotSupported":
		return r.StatusCode >= 400 && !strings.Contains(r.Message, wrongPort)
	}
	return r.StatusCode == http.StatusNotImplemented ||
		r.StatusCode == http.StatusBadRequest && r.Code == fmt.Sprintf("%d %s", r.StatusCode, http.StatusText(r.StatusCode)) // says nothing
}
