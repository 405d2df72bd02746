package storages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// Client is a minimal S3 client that does not interpret responses. It signs each request
// and sends it once, with only the given headers and those of the signature.
type Client struct {
	Endpoint, Region, Key, Secret string
}

// Client returns a client with the server's own keys.
func (s *Server) Client() *Client { return &Client{s.Endpoint(), s.Region, s.Key, s.Secret} }

// Response is a response with its complete body.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request for /path?query. It keeps a given x-amz-content-sha256 header, and
// otherwise sets it to the hash of the body.
func (c *Client) Do(method, path string, query url.Values, header http.Header, body []byte) (Response, error) {
	req, err := http.NewRequest(method, c.Endpoint+(&url.URL{Path: path, RawQuery: query.Encode()}).String(), bytes.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	for name, v := range header {
		req.Header[http.CanonicalHeaderKey(name)] = v
	}
	if req.Header.Get("X-Amz-Content-Sha256") == "" {
		sum := sha256.Sum256(body)
		req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	}
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Do(signer.SignV4(*req, c.Key, c.Secret, "", c.Region))
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, resp.Header, got}, err
}

// Put puts an object. headers are pairs of a name and a value.
func (c *Client) Put(path string, body []byte, headers ...string) (Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return c.Do(http.MethodPut, path, nil, h, body)
}

// MakeBucket creates a bucket. It retries for a minute, since a storage may report that it
// is ready before it can create one.
func (c *Client) MakeBucket(name string) error {
	var a Response
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		a, err = c.Do(http.MethodPut, "/"+name, nil, nil, nil)
		if err == nil && (a.Status == http.StatusOK || a.Status == http.StatusConflict) {
			return nil
		}
	}
	return fmt.Errorf("make bucket %s: status %d, %s, %w", name, a.Status, a.Body, err)
}

// Page is one page of a listing.
type Page struct {
	IsTruncated           bool
	NextContinuationToken string
	Contents              []struct{ Key string }
	CommonPrefixes        []struct{ Prefix string }
}

// List returns one page of a recursive listing.
func (c *Client) List(bucket, prefix, after string) (p Page, err error) {
	q := url.Values{"list-type": {"2"}, "prefix": {prefix}}
	if after != "" {
		q.Set("continuation-token", after)
	}
	a, err := c.Do(http.MethodGet, "/"+bucket, q, nil, nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("list %s: status %d, %s", prefix, a.Status, a.Body)
	}
	if err != nil {
		return p, err
	}
	return p, xml.Unmarshal(a.Body, &p)
}

// Keys lists all keys below a prefix. It returns an error if a page does not advance the
// listing.
func (c *Client) Keys(bucket, prefix string) (keys []string, err error) {
	for after := ""; ; {
		p, err := c.List(bucket, prefix, after)
		if err != nil {
			return keys, err
		}
		for _, o := range p.Contents {
			keys = append(keys, o.Key)
		}
		switch {
		case len(p.CommonPrefixes) > 0:
			return keys, fmt.Errorf("the listing has folders: %v", p.CommonPrefixes)
		case !p.IsTruncated:
			return keys, nil
		case p.NextContinuationToken == "", p.NextContinuationToken == after, len(p.Contents) == 0:
			return keys, fmt.Errorf("after %d keys the listing does not advance", len(keys))
		}
		after = p.NextContinuationToken
	}
}
