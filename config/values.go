package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a kind of setting: which texts are valid, and which field of Config they set.
type value struct {
	kind  string // description for people
	list  bool   // a YAML list is valid, too
	limit bool   // a size, duration, count or rate
	set   func(*Config, string) error

	choices []string // all valid texts, if they are few

	file func(*Config) *string // the path of a file that is read, or nil
}

var (
	errNotAPath = errors.New("is not a path")
	errTilde    = errors.New("begins with ~, which only shells expand: write out the path")
	errVariable = errors.New("contains a variable ($), which only shells expand: write out the path")
)

func checkPath(s string) error {
	switch {
	case s == "" || strings.ContainsRune(s, 0):
		return errNotAPath
	case s[0] == '~':
		return errTilde
	case hasVariable(s):
		return errVariable
	}
	return nil
}

// hasVariable reports whether a path seems to contain a variable of a shell. A $ elsewhere may
// be part of a name.
func hasVariable(s string) bool { return strings.HasPrefix(s, "$") || strings.Contains(s, "${") }

func path(field func(*Config) *string) value {
	return value{kind: "a path", set: func(c *Config, s string) error {
		*field(c) = s
		return checkPath(s)
	}}
}

// file is a path, or the name of a systemd credential. systemd.exec(5) puts credentials
// in a directory of their own and sets its path in CREDENTIALS_DIRECTORY.
func file(field func(*Config) *string) value {
	return value{kind: "a path, or the name of a credential", file: field, set: func(c *Config, s string) error {
		*field(c) = s
		if s == "" {
			return nil
		}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && !strings.ContainsRune(s, '/') {
			*field(c) = filepath.Join(dir, s)
		}
		return checkPath(s)
	}}
}

// maxFile is the max size in bytes of the configuration file, and of each file that it
// names.
const maxFile = 16 << 20

// checkFile returns an error if a file can't be read repeatedly, or is too large. It
// ignores a file that can't be read at all, because the reader of the file reports that.
func checkFile(path string) error {
	info, _ := os.Stat(path)
	switch {
	case info == nil || path == os.DevNull:
		return nil
	case info.IsDir():
		return errors.New("is a directory: name a file")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file, and can't be read again at a reload: write its content to a file")
	case info.Size() > maxFile:
		return errors.New("has more than " + sizeText(maxFile) + ": name another file")
	}
	return nil
}

// reference is a URI reference (RFC 3986, section 4.1) to which a fragment can be added.
func reference(field func(*Config) *string) value {
	const maxLength = 200 // every error response contains it
	return value{kind: "a URL or a path", set: func(c *Config, s string) error {
		*field(c) = s
		u, err := url.Parse(s)
		switch {
		case err != nil || s == "" || strings.ContainsAny(s, " \"<>\\^`{|}") || u.String() != s:
			return errors.New("is not a URL or a path, such as https://docs.example/problems")
		case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
			return errors.New("has a scheme other than http and https")
		case strings.Contains(s, "#"):
			return errors.New("has a #: the code of the problem is added behind one")
		case u.User != nil:
			return errors.New("has a user, which every client would see")
		case len(s) > maxLength:
			return fmt.Errorf("has more than %d characters", maxLength)
		}
		return nil
	}}
}

func mode(field func(*Config) *fs.FileMode) value {
	return value{kind: "permissions in octal", set: func(c *Config, s string) error {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o777 {
			return errors.New("is not permissions in octal, such as 0660")
		}
		*field(c) = fs.FileMode(n)
		return nil
	}}
}

func group(field func(*Config) *int) value {
	return value{kind: "a group", set: func(c *Config, s string) error {
		*field(c) = -1
		if s == "" {
			return nil
		}
		if n, err := strconv.ParseUint(s, 10, 31); err == nil {
			*field(c) = int(n)
			return nil
		}
		g, err := user.LookupGroup(s)
		if err != nil {
			return errors.New("is not a group of this host")
		}
		*field(c), err = strconv.Atoi(g.Gid)
		return err
	}}
}

// skippedFirst are the first characters of a file's name with which Spark, Hive, Trino and
// Hadoop take it for a hidden file. An object's name begins with the node.
const skippedFirst = "._"

func node(field func(*Config) *string) value {
	name := regexp.MustCompile(`^[A-Za-z0-9._-]{0,63}$`)
	return value{kind: "a name", set: func(c *Config, s string) error {
		if !name.MatchString(s) {
			return errors.New("may contain letters, digits, dots, underscores and hyphens, at most 63")
		}
		if s == "." || s == ".." {
			return errors.New("is not a name: it stands for a directory")
		}
		if s != "" && strings.ContainsRune(skippedFirst, rune(s[0])) {
			return errors.New("begins with a dot or an underscore: Spark, Hive and other readers skip objects with such names")
		}
		*field(c) = s
		return nil
	}}
}

func choice(field func(*Config) *string, choices ...string) value {
	all := strings.Join(choices, ", ")
	return value{kind: "one of " + all, choices: choices, set: func(c *Config, s string) error {
		if !slices.Contains(choices, s) {
			return errors.New("is not one of " + all)
		}
		*field(c) = s
		return nil
	}}
}

func yesNo(field func(*Config) *bool) value {
	return value{kind: "true or false", choices: []string{"true", "false"}, set: func(c *Config, s string) error {
		if s != "true" && s != "false" {
			return errors.New("is neither true nor false")
		}
		*field(c) = s == "true"
		return nil
	}}
}

func count(lowest, highest int, field func(*Config) *int) value {
	span := fmt.Sprintf("%d to %d", lowest, highest)
	return value{kind: "a whole number from " + span, limit: true, set: func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("is not a whole number")
		}
		if n < lowest || n > highest {
			return errors.New("is not from " + span)
		}
		*field(c) = n
		return nil
	}}
}

func duration(lowest, highest time.Duration, field func(*Config) *time.Duration) value {
	span := durationText(lowest) + " to " + durationText(highest)
	return value{kind: "a duration from " + span, limit: true, set: func(c *Config, s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New("is not a duration such as 500ms, 5s, 2m or 1h")
		}
		if d < lowest || d > highest {
			return errors.New("is not from " + span)
		}
		*field(c) = d
		return nil
	}}
}

// durationOr is a duration, or empty for 0.
func durationOr(lowest, highest time.Duration, field func(*Config) *time.Duration) value {
	v := duration(lowest, highest, field)
	v.kind += ", or empty"
	set := v.set
	v.set = func(c *Config, s string) error {
		if s == "" {
			*field(c) = 0
			return nil
		}
		return set(c, s)
	}
	return v
}

// durationText formats d without parts that are zero: 1h, not 1h0m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

type unit struct {
	name  string
	bytes int64
}

var units = []unit{ //nolint:gochecknoglobals // a constant table
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
	{"", 1},
}

// parseSize parses a whole number with an optional unit, up to 1<<62 bytes.
func parseSize(s string) (n int64, ok bool) {
	digits := strings.TrimRight(s, "BKMGTik")
	i := slices.IndexFunc(units, func(u unit) bool { return u.name == s[len(digits):] })
	n, err := strconv.ParseInt(strings.TrimSuffix(digits, " "), 10, 64)
	if i < 0 || err != nil || n < 0 || n > 1<<62/units[i].bytes {
		return 0, false
	}
	return n * units[i].bytes, true
}

func sizeText(n int64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}

func size(lowest, highest int64, field func(*Config) *int64) value {
	span := sizeText(lowest) + " to " + sizeText(highest)
	return value{kind: "a size from " + span, limit: true, set: func(c *Config, s string) error {
		n, ok := parseSize(s)
		if !ok {
			return errors.New("is not a size such as 65536, 512KiB, 8MiB or 4GiB")
		}
		if n < lowest || n > highest {
			return errors.New("is not from " + span)
		}
		*field(c) = n
		return nil
	}}
}

// rate is a size per second. The unit of time is required, so that a rate in bits or per
// minute is not mistaken for bytes per second.
func rate(lowest, highest int64, field func(*Config) *int64) value {
	span := sizeText(lowest) + "/s to " + sizeText(highest) + "/s"
	return value{kind: "a rate from " + span, limit: true, set: func(c *Config, s string) error {
		amount, found := strings.CutSuffix(s, "/s")
		n, ok := parseSize(amount)
		if !ok || !found {
			return errors.New("is not a rate such as 512B/s, 64KiB/s or 1MiB/s")
		}
		if n < lowest || n > highest {
			return errors.New("is not from " + span)
		}
		*field(c) = n
		return nil
	}}
}

// rateOrNone is a rate, or 0 for no limit.
func rateOrNone(lowest, highest int64, field func(*Config) *int64) value {
	v := rate(lowest, highest, field)
	bounded := v.set
	v.kind = "0, or " + v.kind
	v.set = func(c *Config, s string) error {
		if s == "0" {
			*field(c) = 0
			return nil
		}
		return bounded(c, s)
	}
	return v
}

// word is a text that an HTTP header can contain.
func word(field func(*Config) *string) value {
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{0,64}$`)
	return value{kind: "a word", set: func(c *Config, s string) error {
		if !form.MatchString(s) {
			return errors.New("may contain letters, digits, underscores and hyphens, at most 64")
		}
		*field(c) = s
		return nil
	}}
}

func sse(field func(*Config) *string) value {
	form := regexp.MustCompile(`^(|s3|kms|kms:[!-~]{1,256})$`)
	return value{kind: "s3, kms or kms:KEY", set: func(c *Config, s string) error {
		if !form.MatchString(s) {
			return errors.New("is neither s3, kms nor kms:KEY")
		}
		*field(c) = s
		return nil
	}}
}

func networks(field func(*Config) *[]netip.Prefix) value {
	return value{kind: "a list of networks", list: true, set: func(c *Config, s string) (err error) {
		*field(c), err = parseParts(s, parseNetwork)
		return err
	}}
}

func parseNetwork(s string) (p netip.Prefix, err error) {
	if p, err = netip.ParsePrefix(s); err != nil {
		return p, errors.New("is not a network such as 10.0.0.0/8 or fd00::/8 (of one address: 10.0.0.1/32)")
	}
	if !p.Addr().Is4In6() {
		return p.Masked(), nil
	}
	if p.Bits() < 96 {
		return p, errors.New("matches no sender: IPv4 addresses are not written as ::ffff:0:0/96 here, but as 0.0.0.0/0 or 10.0.0.0/8")
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked(), nil
}

// parseParts parses the parts of a list. It returns the valid parts, and an error that
// names the others.
func parseParts[T any](list string, parse func(part string) (T, error)) (all []T, err error) {
	for _, part := range splitList(list) {
		one, wrong := parse(part)
		if wrong != nil {
			err = errors.Join(err, partError(part, list, wrong))
			continue
		}
		all = append(all, one)
	}
	return all, err
}

// partError adds to err which part of the list is wrong.
func partError(part, list string, err error) error {
	if part == list {
		return err
	}
	return fmt.Errorf("contains %q, which %w", part, err)
}

// splitList splits a list at commas. It keeps empty parts, so that the caller reports
// them.
func splitList(s string) (parts []string) {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		parts = append(parts, strings.TrimSpace(part))
	}
	return parts
}

var errListen = errors.New("is not an address such as localhost:3000, 0.0.0.0:3000, [::]:3000, :3000 (IPv4 and IPv6), or off")

func addresses(network string, field func(*Config) *[]Address) value {
	return value{kind: "a list of addresses, or off", list: true, set: func(c *Config, s string) error {
		*field(c) = nil
		if s == "off" {
			return nil
		}
		if s == "" {
			return errListen
		}
		lists, err := parseParts(s, func(part string) ([]Address, error) { return parseAddress(part, network) })
		*field(c) = slices.Concat(lists...)
		return err
	}}
}

func parseAddress(s, network string) ([]Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok && network == "tcp" {
		if !filepath.IsAbs(path) || len(path) > 107 || strings.ContainsRune(path, 0) { // the size of sun_path in unix(7)
			return nil, errors.New("names a unix socket without an absolute path of at most 107 bytes")
		}
		return []Address{{Network: "unix", Path: path}}, nil
	}
	host, port, ok := cutPort(s)
	if !ok {
		return nil, errListen
	}
	var both []netip.Addr
	switch host {
	case "localhost":
		both = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	case "", "*":
		both = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	default:
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, errListen
		}
		if ip.Is6() && ip.Zone() == "" && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
			return nil, errors.New("is an address that each interface has: add the interface, as in [fe80::1%eth0]:3000")
		}
		// The kernel treats ::ffff:127.0.0.1 as 127.0.0.1, too.
		return []Address{{Network: network, IP: netip.AddrPortFrom(ip.Unmap(), port)}}, nil
	}
	var all []Address
	for _, ip := range both {
		all = append(all, Address{Network: network, IP: netip.AddrPortFrom(ip, port), Name: s})
	}
	return all, nil
}

func cutPort(s string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	host = s[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
		if host == "" || host == "*" {
			return "", 0, false // a wildcard has no brackets
		}
	} else if strings.Contains(host, ":") {
		return "", 0, false
	}
	return host, uint16(n), err == nil
}
