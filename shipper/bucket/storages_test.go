//go:build torture

package bucket

import (
	"os"
	"path/filepath"
	"testing"

	"collectord/shipper/bucket/s3test"
	"collectord/shipper/bucket/storages"
)

// TestStoragesConform runs the suite of TestStores with common storages. It skips features
// that docs/storages.md documents as missing. Run it with make stores.
func TestStoragesConform(t *testing.T) {
	document, err := os.ReadFile("../../docs/storages.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range storages.All() {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			switch missing := k.Missing(); {
			case missing != "" && os.Getenv("ALLOW_MISSING") == "1":
				t.Skipf("no %s here, and ALLOW_MISSING=1 is set", missing)
			case missing != "":
				t.Fatalf("%s is required: set ALLOW_MISSING=1 to skip this test", missing)
			}
			row, err := storages.ReadRow(string(document), k.Name)
			if err != nil {
				t.Fatal(err)
			}
			server, err := k.New(t.TempDir(), filepath.Join(t.TempDir(), "storage.log"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				server.Kill()
				if text, _ := os.ReadFile(server.Log); t.Failed() {
					t.Logf("%s", text[max(0, len(text)-4000):])
				}
			}()
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			if err := server.Client().MakeBucket("usages"); err != nil {
				t.Fatal(err)
			}
			s := testS3(t, server.Endpoint(), "usages", "some/prefix/", func(o *S3Options) {
				o.Region, o.CredentialsFile = k.Region, s3test.KeysFile(t, server.Key, server.Secret, "")
			})
			testStoreBasics(t, s, row.Metadata == storages.Yes)
			testManyObjects(t, s, row.Metadata == storages.Yes, largeObject)
			can := s.current.Load()
			if can == nil {
				t.Fatal("the capabilities are not known")
			}
			if documented := row.IfNoneMatch == storages.Yes || row.IfNoneMatch == storages.Racy; documented != can.conditional {
				t.Errorf("If-None-Match: documented as %s, found %v", row.IfNoneMatch, can.conditional)
			}
			for _, c := range []struct{ name, documented string }{{"crc32c", row.CRC32C}, {"md5", row.MD5}, {"sha256", row.SHA256}} {
				if c.name == can.checksumName() && c.documented != storages.Yes {
					t.Errorf("%s is verified, and documented as %q", c.name, c.documented)
				}
			}
			if row.IfNoneMatch == storages.Yes {
				testRacingPuts(t, s)
			}
			t.Logf("checksum %s, conditional puts %v", can.checksumName(), can.conditional)
		})
	}
}
