package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
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

// bounded is a value from lowest to highest. what names its kind, and examples follow that
// name in the error for a text that parse rejects.
func bounded[T cmp.Ordered](what, examples string, lowest, highest T, format func(T) string, parse func(string) (T, error), field func(*Config) *T) value {
	span := format(lowest) + " to " + format(highest)
	return value{kind: what + " from " + span, limit: true, set: func(c *Config, s string) error {
		v, err := parse(s)
		switch {
		case err != nil:
			return errors.New("is not " + what + examples)
		case v < lowest || v > highest:
			return errors.New("is not from " + span)
		}
		*field(c) = v
		return nil
	}}
}

func count(lowest, highest int, field func(*Config) *int) value {
	return bounded("a whole number", "", lowest, highest, strconv.Itoa, strconv.Atoi, field)
}

func duration(lowest, highest time.Duration, field func(*Config) *time.Duration) value {
	return bounded("a duration", " such as 500ms, 5s, 2m or 1h", lowest, highest, durationText, time.ParseDuration, field)
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

var errNotASize = errors.New("is not a size")

// parseSize parses a whole number with an optional unit, up to 1<<62 bytes.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTik")
	i := slices.IndexFunc(units, func(u unit) bool { return u.name == s[len(digits):] })
	n, err := strconv.ParseInt(strings.TrimSuffix(digits, " "), 10, 64)
	if i < 0 || err != nil || n < 0 || n > 1<<62/units[i].bytes {
		return 0, errNotASize
	}
	return n * units[i].bytes, nil
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
	return bounded("a size", " such as 65536, 512KiB, 8MiB or 4GiB", lowest, highest, sizeText, parseSize, field)
}

// rate is a size per second. The unit of time is required, so that a rate in bits or per
// minute is not mistaken for bytes per second.
func rate(lowest, highest int64, field func(*Config) *int64) value {
	format := func(n int64) string { return sizeText(n) + "/s" }
	parse := func(s string) (int64, error) {
		amount, found := strings.CutSuffix(s, "/s")
		if !found {
			return 0, errNotASize
		}
		return parseSize(amount)
	}
	return bounded("a rate", " such as 512B/s, 64KiB/s or 1MiB/s", lowest, highest, format, parse, field)
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
