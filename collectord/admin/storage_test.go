package admin

import (
	"strings"
	"testing"

	"collectord/shipper/bucket"
)

// TestMetricsShowStorageCapabilities also covers a storage that was not probed yet.
func TestMetricsShowStorageCapabilities(t *testing.T) {
	for want, found := range map[string]bucket.Capabilities{
		`{checksum="unknown",conditional_put="unknown",encryption="unknown"} 1`: {},
		`{checksum="md5",conditional_put="no",encryption="AES256"} 1`:           {ConditionalPut: "no", Checksum: "md5", Encryption: "AES256"},
	} {
		o := healthyOptions()
		o.Snapshot = func() (s Snapshot, ok bool) {
			s.Shipper.Storage = found
			return s, true
		}
		if _, body := get(t, serve(t, o)+"/metrics"); !strings.Contains(body, "\ncollectord_shipper_storage_info"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}
