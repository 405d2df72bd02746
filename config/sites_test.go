package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestOriginsAreAsBrowsersSendThemAndHostsHaveNoPorts(t *testing.T) {
	for _, good := range []struct{ key, value, want string }{
		{"origins", "'null'", "[null]"},
		{"origins", "['null', 'file://']", "[null file://]"},
		{"origins", "'https://app.example, http://localhost:8080'", "[https://app.example http://localhost:8080]"},
		{"origins", "['http://[::1]:8080', 'http://192.0.2.1', 'https://[2001:db8::1]']", "[http://[::1]:8080 http://192.0.2.1 https://[2001:db8::1]]"},
		{"origins", "['capacitor://localhost', 'chrome-extension://abcdef']", "[capacitor://localhost chrome-extension://abcdef]"},
		{"origins", "['http://a.example:443', 'https://a.example:80']", "[http://a.example:443 https://a.example:80]"},
		{"origins", "''", "[]"},
		{"hosts", "usages.example", "[usages.example]"},
		{"hosts", "Usages.Example.", "[usages.example]"},
		{"hosts", "[192.0.2.1, '2001:DB8::1', '[::1]', ward_3, xn--e1afmkfd.example]", "[192.0.2.1 2001:db8::1 ::1 ward_3 xn--e1afmkfd.example]"},
		{"hosts", "''", "[]"},
	} {
		c := mustLoad(t, "http: {"+good.key+": "+good.value+"}")
		if got := fmt.Sprint(map[string][]string{"origins": c.HTTP.Origins, "hosts": c.HTTP.Hosts}[good.key]); got != good.want {
			t.Errorf("%s: %s became %s, want %s", good.key, good.value, got, good.want)
		}
		if again := mustLoad(t, string(c.Print())); !reflect.DeepEqual(c, again) {
			t.Errorf("printed:\n%s", c.Print())
		}
	}
	for key, values := range map[string][]string{
		"origins": {
			"app.example", "https://app.example/", "https://app.example/x", "HTTPS://app.example", "https://App.example", "https://app.example:443",
			"http://app.example:80", "http://app.example:", "http://app.example:08", "http://app.example:99999", "http://", "://a", "http://a b", "file:///", "file",
			"Null", "*", "http://*.example", "http://user@app.example", "http://::1", "http://[::1", "http://[0::1]", "http://[::1%lo]", "http://1.2.3", "http://a..b", "null,",
			"http://[192.0.2.1]", "http://é.example", "http://app.example, http://b.example/",
		},
		"hosts": {
			"usages.example:80", "http://usages.example", "usages.example/", "*", "*.example", "a..b", ".a", "a b", "é.example", "[::1]:80", "[::1", "::1]", "[192.0.2.1]",
			"[a]", "::1%lo", "10.0.0.0/8", "1.2.3", "1.2.3.256", "a,,b", "user@a", strings.Repeat("a", 254),
		},
	} {
		for _, value := range values {
			_, err := load(t, "http: {"+key+": '"+value+"'}")
			if err == nil || !strings.Contains(err.Error(), "http."+key+" (") || !strings.Contains(err.Error(), "line 1") || !strings.Contains(err.Error(), "write ") {
				t.Errorf("%s: %s: %v", key, value, err)
			}
		}
	}
}

func TestTheOriginNullIsAWarning(t *testing.T) {
	for text, want := range map[string]int{"http: {origins: ['file://', 'null']}": 1, "http: {origins: 'file://, null'}": 1, "http: {origins: 'file://'}": 0} {
		_, warnings, err := Load(Source{Path: writeConfig(t, text)})
		if err != nil || len(warnings) != want || want > 0 && !strings.Contains(warnings[0], "http.origins contains null") {
			t.Errorf("%s: %q, %v", text, warnings, err)
		}
	}
}
