package bucket

import (
	"context"
	"errors"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

func TestRefusalsForTheSizeAreRecognized(t *testing.T) {
	for name, refuse := range s3test.Refusals() {
		f, store := newFake(t)
		store.setCapabilities(checksumCRC32C, true)
		f.Behave(s3test.Behaviour{Fault: refuse.Above(s3test.Limit(10))})
		err := store.Put(context.Background(), testObject("a", "x"))
		var e *Error
		if !errors.As(err, &e) || e.Kind != TooLarge || !e.Permanent || !e.ThisObjectOnly || !strings.Contains(e.Hint, "client_max_body_size") {
			t.Errorf("%s: %#v", name, err)
		}
		if store.current.Load() == nil {
			t.Errorf("%s: the capabilities were forgotten", name)
		}
	}
}
