package storages

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// AddUser creates a user with only the permissions of policy, which is for the bucket
// usages. The format of policy is the storage's: IAM, or its own.
func (s *Server) AddUser(name, secret, policy string) error {
	switch s.Name {
	case "MinIO":
		return s.addMinIOUser(name, secret, policy)
	case "versitygw":
		return s.addVersityUser(name, secret, policy)
	case "Ceph RGW":
		return s.addCephUser(name, secret, policy)
	case "SeaweedFS":
		return s.addSeaweedUser(policy)
	case "Garage":
		return s.addGarageUser(name, secret)
	}
	return fmt.Errorf("users with policies are not implemented for %s", s.Name)
}

// MinIOUser returns the commands that create a MinIO user with a policy from a file.
func MinIOUser(name, secret, file string) string {
	return fmt.Sprintf(`mc admin user add store %[1]s %[2]s
mc admin policy create store %[1]s %[3]s
mc admin policy attach store %[1]s --user %[1]s
`, name, secret, file)
}

func (s *Server) addMinIOUser(name, secret, policy string) error {
	file := s.Log + ".policy.json"
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return err
	}
	s.env = []string{fmt.Sprintf("MC_HOST_store=http://%s:%s@%s", s.Key, s.Secret, s.addr(0))}
	for line := range strings.Lines(MinIOUser(name, secret, file)) {
		args := strings.Fields(line)
		if _, err := s.command(args[0], args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) addVersityUser(name, secret, policy string) error {
	_, err := s.command("versitygw", "admin", "--access", s.Key, "--secret", s.Secret, "--endpoint-url", s.Endpoint(),
		"create-user", "--access", name, "--secret", secret, "--role", "user")
	if err != nil {
		return err
	}
	return s.bucketPolicy(policy, name)
}

func (s *Server) addCephUser(name, secret, policy string) error {
	_, err := s.command("radosgw-admin", "-c", s.path("ceph.conf"), "-n", "client.rgw", "user", "create",
		"--uid="+name, "--display-name="+name, "--access-key="+name, "--secret="+secret)
	if err != nil {
		return err
	}
	return s.bucketPolicy(policy, "arn:aws:iam:::user/"+name)
}

// addSeaweedUser adds an identity, which SeaweedFS uses instead of a policy.
func (s *Server) addSeaweedUser(identity string) error {
	s.Kill()
	text := strings.Replace(identities, `{"identities": [`, `{"identities": [`+identity+", ", 1)
	if err := os.WriteFile(s.path("s3.json"), []byte(text), 0o600); err != nil {
		return err
	}
	return s.Start()
}

// addGarageUser allows read and write for the whole bucket, the least that Garage can
// allow. It also makes the bucket names global, since names are local to the key that
// created them.
func (s *Server) addGarageUser(name, secret string) error {
	garage := func(args string) (string, error) {
		return s.command("garage", append([]string{"-c", s.path("garage.toml")}, strings.Fields(args)...)...)
	}
	list, err := garage("bucket list")
	for line := range strings.Lines(list) {
		for _, bucket := range []string{"usages", "others"} {
			if id, _, _ := strings.Cut(line, " "); err == nil && strings.Contains(line, bucket) {
				_, err = garage("bucket alias " + id + " " + bucket)
			}
		}
	}
	if err == nil {
		_, err = garage("key import --yes -n edge-1 " + name + " " + secret)
	}
	if err == nil {
		_, err = garage("bucket allow --read --write usages --key " + name)
	}
	return err
}

// bucketPolicy sets a bucket policy for one user.
func (s *Server) bucketPolicy(policy, principal string) error {
	var p struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		return err
	}
	for _, statement := range p.Statement {
		statement["Principal"] = map[string]any{"AWS": []string{principal}}
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	a, err := s.Client().Do(http.MethodPut, "/usages", url.Values{"policy": {""}}, nil, text)
	if err == nil && a.Status/100 != 2 {
		err = fmt.Errorf("put the bucket's policy: %s", refusal(a))
	}
	return err
}
