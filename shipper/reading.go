package shipper

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// OpenStoreToRead connects to a destination and changes nothing there: a folder
// is not made, and what a daemon is writing is left alone.
func OpenStoreToRead(d Destination) (Store, error) {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path) {
		return OpenStore(d)
	}
	if info, err := os.Stat(u.Path); err != nil {
		return nil, fmt.Errorf("archive folder: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("archive folder: %s is no directory", u.Path)
	}
	return &fileStore{root: filepath.Clean(u.Path), durable: map[string]bool{}}, nil
}
