package bucket

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// proxyError is a failure of the proxy in front of the storage.
type proxyError struct{ err error }

func (e *proxyError) Error() string { return e.err.Error() }
func (e *proxyError) Unwrap() error { return e.err }

// checkProxy returns an error unless the answer to CONNECT is 200.
func checkProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{errors.New("the proxy does not connect to the storage: " + resp.Status)}
}

// isProxyError reports whether the connection to the proxy failed, or the proxy itself.
func isProxyError(err error) bool {
	var (
		connectErr *proxyError
		op         *net.OpError
	)
	return errors.As(err, &connectErr) || errors.As(err, &op) && op.Op == "proxyconnect"
}

// proxyName names the proxy of requests to the storage and its variable; empty: none.
func (s *s3Store) proxyName() string {
	base, ok := s.transport.base.(*http.Transport)
	if !ok || base.Proxy == nil {
		return ""
	}
	endpoint := s.client.EndpointURL()
	proxy, err := base.Proxy(&http.Request{URL: endpoint})
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host + " (" + strings.ToUpper(endpoint.Scheme) + "_PROXY)" // without its user and password
}
