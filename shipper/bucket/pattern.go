package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
)

// ErrNoMatch means that a pattern matches no destination.
var ErrNoMatch = errors.New("no destination matches")

// Expand returns the destinations that a URL stands for, sorted. A "*" in the path
// matches any characters but "/"; a URL without a "*" stands for itself. The partitions of a
// destination and its _collectord folder never match.
func Expand(ctx context.Context, d Destination) ([]Destination, error) {
	u, err := url.Parse(d.URL)
	if err != nil || !strings.Contains(u.Host+u.Path, "*") {
		return []Destination{d}, nil // Open returns the errors of a URL
	}
	if strings.Contains(u.Host, "*") || u.Scheme != "s3" && u.Scheme != "file" {
		return nil, fmt.Errorf("destination %s: a * can be in the path of s3://bucket/… or file:///…, and nowhere else", d.URL)
	}
	list := foldersOf
	if u.Scheme == "s3" {
		store, err := newS3Store(u.Host, "", d.S3)
		if err != nil {
			return nil, err
		}
		list = store.prefixesOf
		d.S3.shared = store.transport // the idle connections of thousands of transports would use much memory
	}
	found := []string{""}
	listing := false
	for part := range strings.SplitSeq(strings.Trim(u.Path, "/"), "/") {
		if listing = listing || strings.Contains(part, "*"); !listing {
			found[0] += part + "/"
			continue
		}
		// Only * is special.
		pattern := strings.NewReplacer(`\`, `\\`, "?", `\?`, "[", `\[`).Replace(part)
		var next []string
		for _, base := range found {
			var names []string
			err := Retry(ctx, func() (err error) { names, err = list(ctx, base); return err })
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				match, _ := path.Match(pattern, name)
				if match && name != ownDir && !strings.HasPrefix(name, DataPrefix) {
					next = append(next, base+name+"/")
				}
			}
		}
		found = next
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w %s", ErrNoMatch, d.URL)
	}
	slices.Sort(found)
	all := make([]Destination, 0, len(found))
	for _, p := range slices.Compact(found) {
		destination := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/" + strings.TrimSuffix(p, "/")}
		all = append(all, Destination{URL: destination.String(), S3: d.S3})
	}
	return all, nil
}

// foldersOf returns the names of the folders in base, a path without its first slash.
func foldersOf(_ context.Context, base string) (names []string, err error) {
	entries, err := os.ReadDir("/" + base)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		info, statErr := os.Stat(filepath.Join("/"+base, e.Name())) // a link to a folder counts
		if statErr == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// prefixesOf returns the next part, up to a slash, of each key that begins with base.
func (s *s3Store) prefixesOf(ctx context.Context, base string) (names []string, err error) {
	t := callOptionsOf(ctx)
	ctx, cancel := context.WithCancel(context.WithValue(WithCallOptions(ctx, t), listingKey{}, &listing{}))
	defer cancel()
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: base, FetchOwner: new(bool)}) {
		if o.Err != nil {
			return nil, s.fail("list", base, t, o.Err)
		}
		rest, ok := strings.CutPrefix(o.Key, base)
		if name, _, isPrefix := strings.Cut(rest, "/"); ok && isPrefix && name != "" && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	return names, nil
}
