package bucket

import (
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// proxyVariable returns the variable that names the proxy of requests with a scheme, and its
// value. It reads the environment as net/http does.
func proxyVariable(scheme string) (name, value string) {
	name = strings.ToUpper(scheme) + "_PROXY"
	return firstSet(name, strings.ToLower(name))
}

// firstSet returns the first of the variables that is not empty.
func firstSet(names ...string) (name, value string) {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return names[0], ""
}

// proxyProblems returns why the variables that name the proxy of an endpoint do not have the
// effect that the operator meant. It returns none if the endpoint has no proxy.
func proxyProblems(endpoint *url.URL) (all []string) {
	name, value := proxyVariable(endpoint.Scheme)
	if value == "" || !isProxied(endpoint) {
		return nil
	}
	if why := proxyProblem(value); why != "" {
		all = append(all, "the variable "+name+" "+why+": the storage is reached without the proxy, or not at all: "+proxyForm)
	} else if endpoint.Scheme == "http" && os.Getenv("REQUEST_METHOD") != "" {
		all = append(all, "the variable REQUEST_METHOD is set, as in a CGI program, so "+name+" is refused and nothing is shipped: unset REQUEST_METHOD")
	}
	return append(all, noProxyProblems()...)
}

// isProxied reports whether NO_PROXY leaves the endpoint to a proxy.
func isProxied(endpoint *url.URL) bool {
	_, exceptions := firstSet("NO_PROXY", "no_proxy")
	const any = "http://proxy"
	proxy, err := (&httpproxy.Config{HTTPProxy: any, HTTPSProxy: any, NoProxy: exceptions}).ProxyFunc()(endpoint)
	return err == nil && proxy != nil
}

// proxyForm is the advice for each malformed proxy variable.
const proxyForm = "write http://host:port or http://user:password@host:port, with special characters of the password as %XX"

// proxyProblem returns why net/http does not use value as the operator meant it. It ignores some
// malformed values, and takes a part of others for the host. The reason contains no part of the
// value, which may contain a password.
func proxyProblem(value string) string {
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "contains a blank or a line break"
	}
	if !strings.Contains(value, "://") {
		for _, scheme := range []string{"http:", "https:", "socks5:"} {
			if strings.HasPrefix(value, scheme) {
				return "has no // behind its scheme"
			}
		}
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil { // its text contains the value
		return "is not a URL"
	}
	port, errPort := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h":
		return "has a scheme other than http, https, socks5 and socks5h"
	case strings.Contains(u.Path+u.RawQuery+u.Fragment, "@"):
		return "has a user or password with /, ? or #"
	case u.Hostname() == "":
		return "names no host"
	case !isHostname(u.Hostname()):
		return "has a host that is neither a name nor an address"
	case u.Port() != "" && (errPort != nil || port == 0):
		return "has no port from 1 to 65535"
	}
	return ""
}

// isHostname reports whether text may be a host's name or address. A name may have letters of
// any alphabet.
func isHostname(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || !strings.ContainsFunc(text, func(r rune) bool {
		return r < 0x80 && r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
}

// noProxyProblems returns why entries of NO_PROXY match no host.
func noProxyProblems() (all []string) {
	name, value := firstSet("NO_PROXY", "no_proxy")
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if why := noProxyProblem(entry); why != "" {
			all = append(all, "the variable "+name+": the entry "+strconv.Quote(withoutUser(entry))+" matches no host: "+why)
		}
	}
	return all
}

// withoutUser removes the user and password of a URL.
func withoutUser(entry string) string { return entry[strings.LastIndex(entry, "@")+1:] }

func noProxyProblem(entry string) string {
	host, port := entry, ""
	if at := strings.LastIndex(entry, ":"); at >= 0 && (strings.Count(entry, ":") == 1 || strings.HasPrefix(entry, "[")) && at > strings.LastIndex(entry, "]") {
		host, port = entry[:at], entry[at+1:]
	}
	n, errPort := strconv.ParseUint(port, 10, 16)
	name := strings.TrimPrefix(strings.TrimPrefix(host, "*"), ".")
	_, errPrefix := netip.ParsePrefix(entry)
	switch {
	case entry == "" || entry == "*" || errPrefix == nil:
		return ""
	case strings.ContainsAny(entry, " \t\r\n;"):
		return "separate the entries with commas"
	case strings.Contains(entry, "://") || strings.Contains(entry, "@"):
		return "write the host without scheme, user and path"
	case strings.Contains(entry, "/"):
		return "write a network as 10.0.0.0/8 or fd00::/8"
	case strings.HasPrefix(host, "[") && port == "":
		return "write an address without a port without brackets"
	case port != "" && (errPort != nil || n == 0):
		return "write a port from 1 to 65535"
	case name == "" || strings.HasPrefix(host, "*") && !strings.HasPrefix(host, "*."), !isHostname(strings.Trim(name, "[]")):
		return "write a host, .domain, *.domain, an address, or a network as 10.0.0.0/8"
	}
	return ""
}
