package bucket

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

func TestATokenIsNamedByItsVariable(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.User)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.Secret)
	t.Setenv("AWS_SESSION_TOKEN", "stale")
	endpoint := s3test.MinIO(t)
	s := testS3(t, endpoint, s3test.MakeBucket(t, endpoint, false), "", func(o *S3Options) { o.CredentialsFile = "" })
	if err := s.Put(t.Context(), testObject("a", "x")); err == nil || !strings.Contains(err.Error(), "replace or remove AWS_SESSION_TOKEN") {
		t.Error(err)
	}
}

// TestKeysWithALineBreakAreCredentials checks that such keys are an error of the kind
// "credentials", whatever their source. The error does not contain the keys.
func TestKeysWithALineBreakAreCredentials(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	f, _ := newFake(t)
	for _, c := range [][3]string{{"KEY\nX", "SECRET", "TOKEN"}, {"KEY", "SECRET\r", "TOKEN"}, {"KEY", "SECRET", "TOKEN\n"}, {"KEY", "\tSECRET", ""}} {
		t.Setenv("AWS_ACCESS_KEY_ID", c[0])
		t.Setenv("AWS_SECRET_ACCESS_KEY", c[1])
		t.Setenv("AWS_SESSION_TOKEN", c[2])
		for _, region := range []string{"", "us-east-1"} {
			s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile, o.Region = "", region })
			var e *Error
			err := s.Put(t.Context(), testObject("a", "x"))
			if !errors.As(err, &e) || e.Kind != "credentials" || !e.Permanent || !strings.Contains(err.Error(), "contains a line break") {
				t.Errorf("%q: %v", c, err)
			}
			for _, secret := range []string{"KEY", "SECRET", "TOKEN"} {
				if strings.Contains(strings.ReplaceAll(fmt.Sprint(err), "AWS_", ""), secret) {
					t.Errorf("%q: the error contains %s: %v", c, secret, err)
				}
			}
		}
	}
}

// TestACredentialsFileIsNotRepeated checks that no error repeats the content of the file.
func TestACredentialsFileIsNotRepeated(t *testing.T) {
	t.Setenv("AWS_PROFILE", "")
	f, _ := newFake(t)
	for name, text := range map[string]string{
		"not ini":             "SECRET",
		"an unclosed section": "[default\naws_access_key_id = SECRET\n",
		"another profile":     "[other]\naws_access_key_id = SECRET\naws_secret_access_key = SECRET\n",
		"a control character": "[default]\naws_access_key_id = SECRET\naws_secret_access_key = SECRET\x0bSECRET\n",
		"a carriage return":   "[default]\naws_access_key_id = SECRET\raws_secret_access_key = SECRET\n",
		"no secret":           "[default]\naws_access_key_id = SECRET\n",
	} {
		path := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile = path })
		var e *Error
		if err := s.Put(t.Context(), testObject("a", "x")); !errors.As(err, &e) || e.Kind != "credentials" || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
