package shipper

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// documentedPolicy returns the policy in docs/storages.md, changed to a bucket.
func documentedPolicy(t *testing.T, bucket string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/storages.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\n## Permissions\n")
	_, rest, found2 := strings.Cut(rest, "```json\n")
	text, _, found3 := strings.Cut(rest, "```")
	if !found || !found2 || !found3 {
		t.Fatal("docs/storages.md has no policy below Permissions")
	}
	return strings.NewReplacer("usages/prod", bucket+"/some/prefix", "usages", bucket).Replace(text)
}

// restrictedKeys returns the keys of a MinIO session with the permissions of the policy.
func restrictedKeys(t *testing.T, endpoint, policy string) credentials.Value {
	t.Helper()
	// MinIO does not let the root user assume a role.
	sts, err := credentials.NewSTSAssumeRole(endpoint, credentials.STSAssumeRoleOptions{
		AccessKey: s3test.User, SecretKey: s3test.Secret, Policy: policy, DurationSeconds: 3600,
	})
	if err != nil {
		t.Fatal(err)
	}
	var v credentials.Value
	until(t, "MinIO issues keys", func() bool {
		v, err = sts.GetWithContext(nil)
		return err == nil
	})
	return v
}

func TestTheDocumentedPolicyIsEnoughToShip(t *testing.T) {
	endpoint := s3test.MinIO(t)
	name := s3test.MakeBucket(t, endpoint, false)
	admin := testS3(t, endpoint, name+"/some/prefix")
	keys := restrictedKeys(t, endpoint, documentedPolicy(t, name))
	s := testS3(t, endpoint, name+"/some/prefix", func(o *bucket.S3Options) {
		o.CredentialsFile = s3test.KeysFile(t, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)
		o.Region = ""
	})
	l := openLog(t, t.TempDir())
	fill(t, l, 30, 10)
	segments, _ := l.Sealed()
	// One object exists already, from before a crash.
	twinObject := compressCopy(t, segments[0])
	if err := admin.Put(context.Background(), twinObject); err != nil {
		t.Fatal(err)
	}
	drain(t, start(t, l, s), 0)
	checkStoredOnce(t, admin, 30)
	// The policy grants nothing else.
	ctx := context.Background()
	client, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken), Region: "us-east-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.RemoveObject(ctx, name, "some/prefix/"+twinObject.Key, minio.RemoveObjectOptions{}); err == nil {
		t.Error("the policy permits deleting")
	}
	if _, err := client.PutObject(ctx, name, "elsewhere", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err == nil {
		t.Error("the policy permits puts outside of the prefix")
	}
}

func TestAnUnreadableExistingObjectBlocksOnlyItsSegment(t *testing.T) {
	f, s := newFake(t)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		looks := r.Method == http.MethodHead || r.Method == http.MethodGet && r.URL.RawQuery == ""
		return looks && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	l := openLog(t, t.TempDir())
	fill(t, l, 40, 10)
	segments, _ := l.Sealed()
	if err := s.Put(context.Background(), compressCopy(t, segments[0])); err != nil {
		t.Fatal(err)
	}
	logged := &logBuffer{}
	ship := startWith(t, l, s, Options{Logger: logged.logger()})
	until(t, "the other segments are shipped", func() bool { return l.Ledger().Pending == 10 })
	until(t, "the failure is counted", func() bool { return ship.Stats().Failures["AccessDenied"] > 0 })
	if remaining, _ := l.Sealed(); remaining[0] != segments[0] {
		t.Errorf("%v is still sealed, want the first segment", remaining[0])
	}
	if !strings.Contains(logged.text(), "s3:GetObject") || !strings.Contains(logged.text(), "trouble=segment") {
		t.Errorf("no hint was logged: %s", logged.text())
	}
	f.Behave(s3test.Behaviour{})
	drainAll(t, ship)
	checkStoredOnce(t, s, 40)
}
