package storages

import (
	"fmt"
	"os"
)

// ceph is the Ceph gateway (RGW) with one monitor and one OSD, whose BlueStore is a file.
func ceph() Storage {
	const fsid, osd = "6f8d0d3e-4f0a-4f0e-9d8b-3f8f0a3c1b11", "0d1f6c58-7f0e-4a55-9a55-8d8e2f8b6a22"
	return Storage{
		Name: "Ceph RGW", HowToInstall: "apt-get install radosgw ceph-mon ceph-osd", Region: "us-east-1",
		programs: []string{"radosgw", "ceph-mon", "ceph-osd", "ceph", "monmaptool", "radosgw-admin"},
		prepare: func(s *Server) error {
			text := fmt.Sprintf(`[global]
fsid = %[1]s
mon host = v1:%[2]s
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
ms bind msgr2 = false
ms bind port min = %[4]d
ms bind port max = %[5]d
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = %[3]s
admin socket = %[3]s/$name.asok
log file = %[6]s
log to stderr = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 8
osd crush chooseleaf type = 0
[mon.a]
mon data = %[3]s/mon
[osd.0]
osd data = %[3]s/osd
osd objectstore = bluestore
bluestore block size = 1073741824
osd memory target = 939524096
[client.rgw]
rgw frontends = beast endpoint=%[7]s
rgw data = %[3]s/rgw
rgw crypt require ssl = false
`, fsid, s.addr(1), s.Dir, 30100, 30400, s.Log, s.addr(0))
			if err := firstError(mkdirs(s, "mon", "osd", "rgw"), os.WriteFile(s.path("ceph.conf"), []byte(text), 0o600)); err != nil {
				return err
			}
			_, err := s.command("monmaptool", "--create", "--addv", "a", "[v1:"+s.addr(1)+"]", "--fsid", fsid, s.path("monmap"))
			if err != nil {
				return err
			}
			if _, err = s.command("ceph-mon", "-c", s.path("ceph.conf"), "--mkfs", "-i", "a", "--monmap", s.path("monmap")); err != nil {
				return err
			}
			// The OSD is registered with the running monitor, and the user with the
			// running gateway.
			conf := []string{"-c", s.path("ceph.conf")}[:2:2]
			if err := s.begin(process{"ceph-mon", append(conf, "-i", "a", "-f"), nil}); err != nil {
				return err
			}
			defer s.Kill()
			if err = s.retry("ceph", append(conf, "--connect-timeout", "30", "osd", "new", osd)...); err != nil {
				return err
			}
			if _, err = s.command("ceph-osd", append(conf, "-i", "0", "--mkfs", "--osd-uuid", osd)...); err != nil {
				return err
			}
			if err := s.begin(cephOSD(s)); err != nil {
				return err
			}
			return s.retry("radosgw-admin", append(conf, "-n", "client.rgw", "user", "create", "--uid=collectord", "--display-name=collectord", "--access-key="+s.Key, "--secret="+s.Secret)...)
		},
		run: func(s *Server) []process {
			conf := []string{"-c", s.path("ceph.conf")}[:2:2]
			return []process{
				{"ceph-mon", append(conf, "-i", "a", "-f"), nil},
				cephOSD(s),
				{"radosgw", append(conf, "-n", "client.rgw", "-f"), nil},
			}
		},
	}
}

// cephOSD is an OSD that is restarted until it runs: it exits with "wrong fsid" if the
// monitor started too recently.
func cephOSD(s *Server) process {
	return process{"sh", []string{"-c", `until "$@"; do sleep 1; done`, "sh", "ceph-osd", "-c", s.path("ceph.conf"), "-i", "0", "-f"}, nil}
}
