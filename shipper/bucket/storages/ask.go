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
	Yes         = "yes"
	No          = "no"
	Ineffective = "**taken, not done**" // the header is accepted, and has no effect
	Racy        = "**not in a race**"   // more than one of 16 concurrent PUTs gets 200
)

// featureTester tests one storage, in one bucket.
type featureTester struct {
	*Client
	bucket string
	err    error // the first error other than a response
}

// ProbeFeatures tests all features of a running storage, except those that need a kill or a power
// cut.
func (s *Server) ProbeFeatures(bucket string) (Row, error) {
	a := &featureTester{Client: s.Client(), bucket: "/" + bucket + "/ask/"}
	r := Row{
		Name:         s.Name,
		MD5:          a.verifiesChecksum("Content-MD5", func(b []byte) string { s := md5.Sum(b); return base64.StdEncoding.EncodeToString(s[:]) }), //nolint:gosec // see above
		CRC32C:       a.verifiesChecksum("x-amz-checksum-crc32c", crc32c),
		SHA256:       a.verifiesSignature(),
		IfNoneMatch:  a.neverReplaces(),
		IfMatch:      a.replacesIfMatch(),
		Metadata:     a.keepsMetadata(),
		Encryption:   a.encryptsAtRest(s.Dir),
		StorageClass: a.confirmsHeader("x-amz-storage-class", "STANDARD_IA"),
	}
	if a.err == nil {
		r.Lists, a.err = a.listsAllPages(bucket)
	}
	return r, a.err
}

// put puts an object. It stores an error other than a response in a.err.
func (a *featureTester) put(name string, body []byte, headers ...string) Response {
	response, err := a.Put(a.bucket+name, body, headers...)
	a.err = firstError(a.err, err)
	return response
}

func (a *featureTester) get(method, name string) Response {
	response, err := a.Do(method, a.bucket+name, nil, nil, nil)
	a.err = firstError(a.err, err)
	return response
}

// refusal returns the status and the S3 error code of a response.
func refusal(a Response) string {
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

// verifiesChecksum sends a wrong checksum, then a correct one.
func (a *featureTester) verifiesChecksum(header string, sum func([]byte) string) string {
	body := []byte("some bytes")
	wrong := a.put(header+"-wrong", body, header, sum([]byte("other bytes")))
	right := a.put(header+"-right", body, header, sum(body))
	return a.verdict(wrong, right, header+"-wrong")
}

// verifiesSignature puts an object with a wrong x-amz-content-sha256, which the signature covers,
// and one with a right one.
func (a *featureTester) verifiesSignature() string {
	const header = "x-amz-content-sha256"
	wrong := a.put("sha256-wrong", []byte("some bytes"), header, strings.Repeat("0123456789abcdef", 4))
	return a.verdict(wrong, a.put("sha256-right", []byte("some bytes")), "sha256-wrong")
}

func (a *featureTester) verdict(wrong, right Response, name string) string {
	switch {
	case right.Status != http.StatusOK:
		return "refused (" + refusal(right) + ")"
	case wrong.Status == http.StatusOK:
		return Ineffective
	case a.get(http.MethodHead, name).Status != http.StatusNotFound:
		return "**refused, and stored**"
	}
	return Yes
}

// neverReplaces tests If-None-Match: * with an existing key, then with 16 concurrent PUTs
// of a new key. It runs eight such races.
func (a *featureTester) neverReplaces() string {
	a.put("taken", []byte("first"))
	second := a.put("taken", []byte("second"), "If-None-Match", "*")
	switch {
	case second.Status == http.StatusOK:
		return Ineffective
	case second.Status != http.StatusPreconditionFailed:
		return "refused (" + refusal(second) + ")"
	case string(a.get(http.MethodGet, "taken").Body) != "first":
		return "**412, and replaced**"
	}
	const racers, races = 16, 8
	maxWinners := 0
	for race := range races {
		maxWinners = max(maxWinners, a.race(fmt.Sprintf("race-%d", race), racers))
	}
	if maxWinners != 1 {
		return Racy
	}
	return Yes
}

// race returns how many concurrent PUTs got 200.
func (a *featureTester) race(name string, racers int) (winners int) {
	var wg sync.WaitGroup
	status := make([]int, racers)
	begin := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-begin
			response, err := a.Put(a.bucket+name, bytes.Repeat([]byte{byte('a' + i)}, 64<<10), "If-None-Match", "*")
			if err == nil {
				status[i] = response.Status
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
func (a *featureTester) replacesIfMatch() string {
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
		return Ineffective
	}
	if string(a.get(http.MethodGet, "match").Body) != "second" {
		return "**412, and replaced**"
	}
	return yes
}

func (a *featureTester) keepsMetadata() string {
	a.put("metadata", []byte("x"), "x-amz-meta-collectord-sha256", "abc123")
	if a.get(http.MethodHead, "metadata").Header.Get("X-Amz-Meta-Collectord-Sha256") != "abc123" {
		return No
	}
	return Yes
}

// encryptsAtRest searches the storage's disk for the bytes it put, since a storage may return
// the header without encrypting.
func (a *featureTester) encryptsAtRest(dir string) string {
	const header = "x-amz-server-side-encryption"
	plain, secret := make([]byte, 8<<10), make([]byte, 8<<10)
	_, _ = rand.Read(plain)
	_, _ = rand.Read(secret)
	a.put("plain", plain)
	put := a.put("secret", secret, header, "AES256")
	confirmed := a.get(http.MethodHead, "secret").Header.Get(header) == "AES256"
	inPlain, err := onDisk(dir, secret[1024:1024+64])
	a.err = firstError(a.err, err)
	control, err := onDisk(dir, plain[1024:1024+64])
	a.err = firstError(a.err, err)
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
	return Ineffective
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

// confirmsHeader tests a header whose effect HEAD must confirm.
func (a *featureTester) confirmsHeader(header, value string) string {
	put := a.put(header, []byte("x"), header, value)
	if put.Status != http.StatusOK {
		return "refused (" + refusal(put) + ")"
	}
	if a.get(http.MethodHead, header).Header.Get(header) != value {
		return Ineffective
	}
	return Yes
}

// listedKeys is more keys than one page of any storage has.
const listedKeys = 1_100

// putAgain puts an object and retries server errors, as collectord does. rclone fails if
// two PUTs create the same directory concurrently.
func (a *featureTester) putAgain(path string, body []byte) error {
	for try := 0; ; try++ {
		response, err := a.Put(path, body)
		switch {
		case err != nil:
			return err
		case response.Status == http.StatusOK:
			return nil
		case response.Status < http.StatusInternalServerError || try == 5:
			return fmt.Errorf("put %s: %s", path, refusal(response))
		}
	}
}

// listsAllPages puts enough objects for several pages, and lists them.
func (a *featureTester) listsAllPages(bucket string) (string, error) {
	const prefix = "list/dt=2026-11-23/"
	var want []string
	for i := range listedKeys {
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
	return fmt.Sprintf("**%d of %d**", len(keys), listedKeys), nil
}
