package shipper

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

// probeKey names the object by which the storage's abilities are found out. It
// is always the same, and so are its bytes.
const probeKey = ownDir + "/conditional-put.json"

// findOut asks the storage, once, whether a put can be made to not replace, and
// which checksum it takes, by putting a small object that may be there already.
// A storage that does not know If-None-Match may refuse it, or, worse, take no
// notice. Only answers that are proven count; those of a web page teach nothing.
func (s *s3Store) findOut(ctx context.Context) error {
	if s.conditions.Load() != unknownConditions {
		return nil
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.conditions.Load() != unknownConditions {
		return nil
	}
	probe := bytesObject(probeKey, []byte(`{"about":"collectord puts this to see whether a put replaces"}`+"\n"))
	first := s.checksum.Load()
	most := first
	if s.mayWeaken {
		first, most = checksumCRC32C, checksumOff
	}
	put := func(checksum int32, conditional bool) error {
		answer, err := s.put(ctx, probe, checksum, conditional)
		if err != nil || s.trustful {
			return err // read back below
		}
		return s.prove(ctx, probe, answer, checksum)
	}
	var err error
	for checksum := first; checksum <= most; checksum++ {
		for _, conditional := range []bool{true, false} {
			err = put(checksum, conditional)
			if err == nil && conditional { // it was not there, or it was replaced
				if err = put(checksum, conditional); err == nil {
					conditional = false
				}
			}
			switch resp := minio.ToErrorResponse(err); {
			case err == nil, resp.StatusCode == http.StatusPreconditionFailed:
				if s.trustful {
					if err := s.readBack(ctx, probe); err != nil {
						return err
					}
					s.believe.Store(true)
				}
				s.learn(checksum, conditional)
				return nil
			case !refuses(resp):
				return err
			}
		}
	}
	return err
}

// learn notes what the storage can do.
func (s *s3Store) learn(checksum int32, conditional bool) {
	name := []string{"crc32c", "md5", "off"}[checksum]
	s.checksum.Store(checksum)
	if conditional {
		s.conditions.Store(withConditions)
		s.log.Debug("the storage keeps a put from replacing", "destination", s.String(), "checksum", name)
		return
	}
	s.conditions.Store(withoutConditions)
	s.log.Warn("the storage knows no conditional put: it is asked before each one", "destination", s.String(), "checksum", name)
}

// refuses tells a storage that does not know a header from one that is in
// trouble, or found the bytes to be wrong.
func refuses(r minio.ErrorResponse) bool {
	switch r.Code {
	case "InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedHeader", "BadRequest", "NotSupported":
		return r.StatusCode >= 400
	}
	return r.StatusCode == http.StatusNotImplemented ||
		r.StatusCode == http.StatusBadRequest && r.Code == fmt.Sprintf("%d %s", r.StatusCode, http.StatusText(r.StatusCode)) // says nothing
}
