package storages

import (
	"bytes"
	"crypto/md5" //nolint:gosec // Content-MD5 (RFC 1864)
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Results for a storage's feature, as printed in docs/storages.md.
const (
	Yes    = "yes"
	No     = "no"
	Silent = "**taken, not done**" // the header is accepted, and has no effect
	Racy   = "**not in a race**"   // more than one of 16 concurrent PUTs gets 200
)

// asker tests one storage, in one bucket.
type asker struct {
	*Client
	bucket string
	err    error // the first error other than a response
}

// Ask tests all features of a running storage, except those that need a kill or a power
// cut.
func (s *Server) Ask(bucket string) (Row, error) {
	a := &asker{Client: s.Client(), bucket: "/" + bucket + "/ask/"}
	r := Row{
		Name:         s.Name,
		MD5:          a.checks("Content-MD5", func(b []byte) string { s := md5.Sum(b); return base64.StdEncoding.EncodeToString(s[:]) }), //nolint:gosec // see above
		CRC32C:       a.checks("x-amz-checksum-crc32c", crc32c),
		SHA256:       a.checksSignature(),
		IfNoneMatch:  a.neverReplaces(),
		IfMatch:      a.replacesIfMatch(),
		Metadata:     a.keepsMetadata(),
		Encryption:   a.encrypts(s.Dir),
		StorageClass: a.echoes("x-amz-storage-class", "STANDARD_IA"),
	}
	if a.err == nil {
		r.Lists, a.err = a.lists(bucket)
	}
	return r, a.err
}

// put puts an object. It stores an error other than a response in a.err.
func (a *asker) put(name string, body []byte, headers ...string) Answer {
	answer, err := a.Put(a.bucket+name, body, headers...)
	a.err = errorOr(a.err, err)
	return answer
}

func (a *asker) get(method, name string) Answer {
	answer, err := a.Do(method, a.bucket+name, nil, nil, nil)
	a.err = errorOr(a.err, err)
	return answer
}

// refusal returns the status and the S3 error code of a response.
func refusal(a Answer) string {
	var e struct{ Code string }
	if err := xml.Unmarshal(a.Body, &e); err != nil || e.Code == "" {
		return fmt.Sprint(a.Status)
	}
	return fmt.Sprintf("%d %s", a.Status, e.Code)
}

func crc32c(body []byte) string {
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// checks sends a wrong checksum, then a correct one.
func (a *asker) checks(header string, sum func([]byte) string) string {
	body := []byte("some bytes")
	wrong := a.put(header+"-wrong", body, header, sum([]byte("other bytes")))
	right := a.put(header+"-right", body, header, sum(body))
	return a.verdict(wrong, right, header+"-wrong")
}

// checksSignature does the same as checks for the header that the signature covers.
func (a *asker) checksSignature() string {
	const header = "x-amz-content-sha256"
	wrong := a.put("sha256-wrong", []byte("some bytes"), header, strings.Repeat("0123456789abcdef", 4))
	return a.verdict(wrong, a.put("sha256-right", []byte("some bytes")), "sha256-wrong")
}

func (a *asker) verdict(wrong, right Answer, name string) string {
	switch {
	case right.Status != http.StatusOK:
		return "refused (" + refusal(right) + ")"
	case wrong.Status == http.StatusOK:
		return Silent
	case a.get(http.MethodHead, name).Status != http.StatusNotFound:
		return "**refused, and stored**"
	}
	return Yes
}

// neverReplaces tests If-None-Match: * with an existing key, then with 16 concurrent PUTs
// of a new key. It runs eight such races.
func (a *asker) neverReplaces() string {
	a.put("taken", []byte("first"))
	second := a.put("taken", []byte("second"), "If-None-Match", "*")
	switch {
	case second.Status == http.StatusOK:
		return Silent
	case second.Status != http.StatusPreconditionFailed:
		return "refused (" + refusal(second) + ")"
	case string(a.get(http.MethodGet, "taken").Body) != "first":
		return "**412, and replaced**"
	}
	const racers, races = 16, 8
	most := 0
	for race := range races {
		most = max(most, a.race(fmt.Sprintf("race-%d", race), racers))
	}
	if most != 1 {
		return Racy
	}
	return Yes
}

// race returns how many concurrent PUTs got 200.
func (a *asker) race(name string, racers int) (winners int) {
	var wg sync.WaitGroup
	status := make([]int, racers)
	begin := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-begin
			answer, err := a.Put(a.bucket+name, bytes.Repeat([]byte{byte('a' + i)}, 64<<10), "If-None-Match", "*")
			if err == nil {
				status[i] = answer.Status
			}
		})
	}
	close(begin)
	wg.Wait()
	for _, s := range status {
		if s == http.StatusOK {
			winners++
		}
	}
	return winners
}

// replacesIfMatch tests If-Match with the current ETag, then with an old one.
func (a *asker) replacesIfMatch() string {
	a.put("match", []byte("first"))
	etag := a.get(http.MethodHead, "match").Header.Get("ETag")
	right, yes := a.put("match", []byte("second"), "If-Match", etag), Yes
	if right.Status == http.StatusPreconditionFailed { // RFC 9110 requires quotes
		right, yes = a.put("match", []byte("second"), "If-Match", strings.Trim(etag, `"`)), "without quotes"
	}
	if right.Status != http.StatusOK {
		return "refused (" + refusal(right) + ")"
	}
	if wrong := a.put("match", []byte("third"), "If-Match", etag); wrong.Status == http.StatusOK {
		return Silent
	}
	if string(a.get(http.MethodGet, "match").Body) != "second" {
		return "**412, and replaced**"
	}
	return yes
}

func (a *asker) keepsMetadata() string {
	a.put("metadata", []byte("x"), "x-amz-meta-collectord-sha256", "abc123")
	if a.get(http.MethodHead, "metadata").Header.Get("X-Amz-Meta-Collectord-Sha256") != "abc123" {
		return No
	}
	return Yes
}

// encrypts searches the storage's disk for the bytes it put, since a storage may return
// the header without encrypting.
func (a *asker) encrypts(dir string) string {
	const header = "x-amz-server-side-encryption"
	plain, secret := make([]byte, 8<<10), make([]byte, 8<<10)
	_, _ = rand.Read(plain)
	_, _ = rand.Read(secret)
	a.put("plain", plain)
	put := a.put("secret", secret, header, "AES256")
	confirmed := a.get(http.MethodHead, "secret").Header.Get(header) == "AES256"
	inPlain, err := onDisk(dir, secret[1024:1024+64])
	a.err = errorOr(a.err, err)
	control, err := onDisk(dir, plain[1024:1024+64])
	a.err = errorOr(a.err, err)
	switch {
	case put.Status != http.StatusOK:
		return "refused (" + refusal(put) + ")"
	case confirmed && inPlain:
		return "**confirmed, not done**"
	case confirmed && !control:
		return "confirmed"
	case confirmed:
		return Yes
	}
	return Silent
}

// onDisk reports whether a file below dir contains the bytes of what.
func onDisk(dir string, what []byte) (found bool, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !e.Type().IsRegular() {
			return nil // temporary files may disappear during the walk
		}
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return nil // the file may have disappeared
		}
		defer f.Close()
		const step = 4 << 20
		b := make([]byte, 0, step+len(what))
		for err == nil {
			n, readErr := io.ReadFull(f, b[len(b):len(b)+step])
			b = b[:len(b)+n]
			if bytes.Contains(b, what) {
				found = true
				return fs.SkipAll
			}
			b = b[:copy(b, b[max(0, len(b)-len(what)):])]
			err = readErr
		}
		return nil
	})
	return found, err
}

// echoes tests a header whose effect HEAD must confirm.
func (a *asker) echoes(header, value string) string {
	put := a.put(header, []byte("x"), header, value)
	if put.Status != http.StatusOK {
		return "refused (" + refusal(put) + ")"
	}
	if a.get(http.MethodHead, header).Header.Get(header) != value {
		return Silent
	}
	return Yes
}

// listed is more keys than one page of any storage has.
const listed = 1_100

// putAgain puts an object and retries server errors, as collectord does. rclone fails if
// two PUTs create the same directory concurrently.
func (a *asker) putAgain(path string, body []byte) error {
	for try := 0; ; try++ {
		answer, err := a.Put(path, body)
		switch {
		case err != nil:
			return err
		case answer.Status == http.StatusOK:
			return nil
		case answer.Status < http.StatusInternalServerError || try == 5:
			return fmt.Errorf("put %s: %s", path, refusal(answer))
		}
	}
}

// lists puts enough objects for several pages, and lists them.
func (a *asker) lists(bucket string) (string, error) {
	const prefix = "list/dt=2026-11-23/"
	var want []string
	for i := range listed {
		want = append(want, fmt.Sprintf("%shour=%02d/edge-%d.ndjson.zst", prefix, i%24, i/24))
	}
	slices.Sort(want)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for worker := range errs {
		wg.Go(func() {
			for i := worker; i < len(want) && errs[worker] == nil; i += len(errs) {
				errs[worker] = a.putAgain("/"+bucket+"/"+want[i], []byte("x"))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	keys, err := a.Keys(bucket, prefix)
	switch {
	case err != nil:
		return "**" + err.Error() + "**", nil //nolint:nilerr // the error is the result of the test
	case slices.Equal(keys, want):
		return Yes, nil
	case slices.Equal(slices.Sorted(slices.Values(keys)), want):
		return "whole, not sorted", nil
	}
	return fmt.Sprintf("**%d of %d**", len(keys), listed), nil
}
