package storages

import (
	"fmt"
	"os"
	"strings"
)

// garage returns Garage, which stores metadata in its own database, and syncs if synced is
// set.
func garage(name, engine string, synced bool) Storage {
	return Storage{
		Name: name, HowToInstall: "make stores builds it with cargo", Region: "garage",
		programs: []string{"garage"},
		prepare: func(s *Server) error {
			s.Key, s.Secret = "GK"+strings.Repeat("0123456789ab", 2), strings.Repeat("0123456789abcdef", 4)
			return firstError(mkdirs(s, "meta", "data"), os.WriteFile(s.path("garage.toml"), fmt.Appendf(nil, `metadata_dir = %q
data_dir = %q
db_engine = %q
replication_factor = 1
metadata_fsync = %t
data_fsync = %t
rpc_bind_addr = %q
rpc_public_addr = %q
rpc_secret = %q
[s3_api]
s3_region = "garage"
api_bind_addr = %q
`, s.path("meta"), s.path("data"), engine, synced, synced, s.addr(1), s.addr(1), s.Secret, s.addr(0)), 0o600))
		},
		run: func(s *Server) []process {
			return []process{{"garage", []string{"-c", s.path("garage.toml"), "server"}, nil}}
		},
		setup: func(s *Server) error {
			node, err := s.command("garage", "-c", s.path("garage.toml"), "node", "id", "-q")
			if err != nil {
				return err
			}
			id, _, _ := strings.Cut(strings.TrimSpace(node), "@")
			for _, args := range []string{
				"layout assign -z here -c 1G " + id, "layout apply --version 1",
				"key import --yes -n collectord " + s.Key + " " + s.Secret, "key allow --create-bucket " + s.Key,
			} {
				if _, err := s.command("garage", append([]string{"-c", s.path("garage.toml")}, strings.Fields(args)...)...); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
