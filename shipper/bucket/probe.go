package bucket

import (
	"context"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// What is known of If-None-Match: *.
const (
	unknownConditions = iota
	withConditions
	withoutConditions // refused, or taken no notice of
)

// probe asks the storage, once, whether a put can be made to not replace, and
// which checksum it takes, by putting a small object that may be there already.
// A storage that does not know If-None-Match may refuse it, or, worse, take no
// notice. Only answers that are proven count, not those of a web page.
func (s *s3Store) probe(ctx context.Context) error {
	if s.conditions.Load() != unknownConditions {
		return nil
	}
	select { // not a mutex: who waits for it can be told to stop
	case s.probing <- struct{}{}:
		defer func() { <-s.probing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.conditions.Load() != unknownConditions {
		return nil
	}
	object := NewObject(probeKey, []byte(`{"about":"collectord puts this to see whether a put replaces"}`+"\n"))
	strongest := s.checksum.Load()
	weakest := strongest
	if s.mayDowngrade {
		strongest, weakest = checksumCRC32C, checksumOff
	}
	put := func(checksum int32, conditional bool) error {
		answer, err := s.put(ctx, object, checksum, conditional)
		if err != nil || s.trustAnswers {
			return err // read back below
		}
		return s.prove(ctx, object, answer, checksum)
	}
	var err error
	for checksum := strongest; checksum <= weakest; checksum++ {
		for _, conditional := range []bool{true, false} {
			err = put(checksum, conditional)
			if err == nil && conditional { // it was not there, or it was replaced
				if err = put(checksum, conditional); err == nil {
					conditional = false
				}
			}
			switch resp := minio.ToErrorResponse(err); {
			case err == nil, resp.StatusCode == http.StatusPreconditionFailed:
				if s.trustAnswers {
					if err := s.readBack(ctx, object); err != nil {
						return err
					}
					s.trusted.Store(true)
				}
				s.setCapabilities(checksum, conditional)
				return nil
			case !refuses(resp):
				return err
			}
		}
	}
	return err
}

// setCapabilities stores what the probe found.
func (s *s3Store) setCapabilities(checksum int32, conditional bool) {
	name := []string{"crc32c", "md5", "off"}[checksum]
	s.checksum.Store(checksum)
	if conditional {
		s.conditions.Store(withConditions)
		s.log.Debug("the storage supports conditional puts", "destination", s.String(), "checksum", name)
		return
	}
	s.conditions.Store(withoutConditions)
	s.log.Warn("the storage does not support conditional puts: it is asked before each one", "destination", s.String(), "checksum", name)
}

// refuses distinguishes a storage that does not know a header from one that is in
// trouble, or found the bytes to be wrong.
func refuses(r minio.ErrorResponse) bool {
	switch r.Code {
	case "InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedHeader", "BadRequest", "NotSupported":
		return r.StatusCode >= 400
	}
	return r.StatusCode == http.StatusNotImplemented ||
		r.StatusCode == http.StatusBadRequest && r.Code == fmt.Sprintf("%d %s", r.StatusCode, http.StatusText(r.StatusCode)) // says nothing
}
