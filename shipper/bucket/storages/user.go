package storages

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

// AddUser makes a user who may do what an IAM policy for the bucket usages says, and
// nothing else. MinIO and versitygw can.
func (s *Server) AddUser(name, secret, policy string) error {
	switch s.Name {
	case "MinIO":
		return s.addMinIOUser(name, secret, policy)
	case "versitygw":
		return s.addVersityUser(name, secret, policy)
	}
	return fmt.Errorf("%s has no users with policies, or nobody tried", s.Name)
}

func (s *Server) addMinIOUser(name, secret, policy string) error {
	file := s.Log + ".policy.json"
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return err
	}
	s.env = []string{fmt.Sprintf("MC_HOST_store=http://%s:%s@%s", s.Key, s.Secret, s.addr(0))}
	for _, args := range [][]string{
		{"user", "add", "store", name, secret}, {"policy", "create", "store", name, file}, {"policy", "attach", "store", name, "--user", name},
	} {
		if _, err := s.command("mc", append([]string{"admin"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// addVersityUser makes the policy one of the bucket: each statement names whom it is
// for.
func (s *Server) addVersityUser(name, secret, policy string) error {
	_, err := s.command("versitygw", "admin", "--access", s.Key, "--secret", s.Secret, "--endpoint-url", s.Endpoint(),
		"create-user", "--access", name, "--secret", secret, "--role", "user")
	if err != nil {
		return err
	}
	var p struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		return err
	}
	for _, statement := range p.Statement {
		statement["Principal"] = map[string]any{"AWS": []string{name}}
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
