package bucket

import (
	"strings"
	"testing"
)

// TestProxyVariablesAreChecked has values that net/http ignores, or takes for another proxy.
func TestProxyVariablesAreChecked(t *testing.T) {
	t.Setenv("REQUEST_METHOD", "")
	t.Setenv("NO_PROXY", "direct.example")
	for value, want := range map[string]string{
		"http://proxy:3128": "", "proxy:3128": "", "proxy": "", "https://proxy": "", "socks5://10.0.0.1:1080": "", "socks5h://proxy:1080": "", "HTTP://Proxy_1.example:3128/": "",
		"http://me:SECRET@proxy:3128": "", "me:SECRET@proxy:3128": "", "http://me:SECRET%23@proxy:3128": "", "http://[::1]:3128": "", "http://[fe80::1%25eth0]:3128": "", "http://m\u00fcller.example:3128": "",
		"http://me:SECRET@proxy:31x": "is not a URL", "me:SECRET@proxy:31x": "is not a URL", "http://[::1": "is not a URL", "http://me:SECRET%@proxy:3128": "is not a URL",
		"http://me:SEC#RET@proxy:3128": "is not a URL", "http://me:12#SECRET@proxy:3128": "has a user or password with", "http://me:12/SECRET@proxy:3128": "has a user or password with", "http://me?SECRET@proxy": "has a user or password with",
		" http://me:SECRET@proxy:3128": "contains a blank", "http://me:SECRET@proxy:3128\r": "contains a blank", "http://me:SECRET@proxy:3128\n": "contains a blank", "http://a b:3128": "contains a blank",
		"ftp://me:SECRET@proxy": "has a scheme other", "htpp://proxy:3128": "has a scheme other", "socks4://proxy:1080": "has a scheme other",
		"http:proxy:3128": "has no // behind its scheme", "http:/me:SECRET@proxy:3128": "has no // behind its scheme",
		"http://": "names no host", "http://:3128": "names no host", "http://me:SECRET@:3128": "names no host",
		"http://proxy:0": "has no port from 1 to 65535", "http://proxy:99999": "has no port from 1 to 65535",
		"\"http://proxy\"": "is not a URL", "'proxy'": "has a host that is neither", "http://<proxy>:3128": "has a host that is neither",
	} {
		for _, scheme := range []string{"http", "https"} {
			for name, other := range map[string]string{strings.ToUpper(scheme) + "_PROXY": scheme + "_proxy", scheme + "_proxy": strings.ToUpper(scheme) + "_PROXY"} {
				t.Setenv(other, "")
				t.Setenv(name, value)
				d := Destination{URL: "s3://abc/p", S3: S3Options{Endpoint: scheme + "://s3.example", Region: "r"}}
				text := strings.Join(Warnings(d), "; ")
				if (want == "") != (text == "") || want != "" && !strings.HasPrefix(text, "the variable "+name+" "+want) {
					t.Errorf("%s=%q: %s; want: %s", name, value, text, want)
				}
				if strings.Contains(text, "SEC") {
					t.Errorf("%s=%q: a part of the password is printed: %s", name, value, text)
				}
				d.S3.Endpoint = scheme + "://direct.example"
				if got := Warnings(d); len(got) > 0 {
					t.Errorf("%s=%q: an endpoint without a proxy: %q", name, value, got)
				}
				t.Setenv(name, "")
			}
		}
	}
	t.Setenv("HTTP_PROXY", "http://proxy:3128")
	t.Setenv("REQUEST_METHOD", "GET")
	if got := Warnings(Destination{URL: "s3://abc", S3: S3Options{Endpoint: "http://s3.example"}}); len(got) != 1 || !strings.Contains(got[0], "the variable REQUEST_METHOD is set") {
		t.Errorf("in a CGI program: %q", got)
	}
}

func TestNoProxyEntriesThatMatchNothingAreWarnedOf(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy:3128")
	d := Destination{URL: "s3://abc/p", S3: S3Options{Endpoint: "https://s3.example"}}
	for value, want := range map[string]string{
		"": "", "a, b,, .c.example,*.d.example , 10.0.0.1,10.0.0.0/8,::1,fd00::/8,[fd00::1]:443,a:443,10.0.0.1:80": "", "a b,*": "",
		"a b": "separate the entries", "a;b": "separate the entries",
		"https://me:SECRET@a": "without scheme", "me:SECRET@a": "without scheme",
		"10.0.0.0/33": "write a network", "a/b": "write a network", "[fd00::1]": "without brackets", "a:x": "write a port", "a:70000": "write a port",
		"10.*": "write a host", "*a": "write a host", "'a'": "write a host", ".": "write a host",
	} {
		t.Setenv("NO_PROXY", value)
		text := strings.Join(Warnings(d), "; ")
		if (want == "") != (text == "") || !strings.Contains(text, want) || strings.Contains(text, "SECRET") {
			t.Errorf("NO_PROXY=%q: %s; want: %s", value, text, want)
		}
	}
	t.Setenv("NO_PROXY", "a b")
	t.Setenv("HTTPS_PROXY", "")
	t.Setenv("https_proxy", "")
	if got := Warnings(d); got != nil {
		t.Errorf("without a proxy: %q", got)
	}
}
