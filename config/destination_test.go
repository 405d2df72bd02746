package config

import (
	"net/url"
	"strings"
	"testing"
)

func TestAMistakeInTheDestinationIsNamed(t *testing.T) {
	for destination, want := range map[string]string{
		"":                                       "",
		"file:///var/lib/x y":                    "",
		"file:///var/lib/50%25":                  "",
		"file:///var/lib/50%":                    "write %25 for %",
		"file:///a?b":                            "has a ? or # in the path",
		"file:///a#b":                            "has a ? or # in the path",
		"file:///":                               "names no folder",
		"file:////":                              "names no folder",
		"file:///~/a":                            "only shells expand",
		"s3://abc":                               "",
		"s3://abc/":                              "",
		"s3://abc/a":                             "",
		"s3://abc/a/":                            "",
		"s3://a.b-c/env=prod/-_":                 "",
		"s3://b/p":                               `names the bucket "b", which is too short: a name has at least 3 characters`,
		"s3://":                                  `names the bucket "", which is too short`,
		"s3:///p":                                `names the bucket "", which is too short`,
		"s3://" + strings.Repeat("a", 64) + "/p": "too long",
		"s3://Abc/p":                             "lower-case letters",
		"s3://abc-/p":                            "begins and ends",
		"s3://abc:9000/p":                        "lower-case letters",
		"s3://KEY:SECRET@abc/":                   "shipper.s3.credentials_file",
		"s3://abc//":                             "empty component",
		"s3://abc//a":                            "empty component",
		"s3://abc/a//b":                          "empty component",
		"s3://abc/a//":                           "empty component",
		"s3://abc/.":                             `the component "."`,
		"s3://abc/a/../b":                        `the component ".."`,
		"s3://abc/a b":                           `has a prefix with ' ': letters of ASCII, digits and !'()*-./=_ are allowed`,
		"s3://abc/a%20b":                         `has a prefix with '%'`,
		"s3://abc/a?x=y":                         `has a prefix with '?'`,
		"s3://abc/ü":                             `has a prefix with 'ü'`,
		"s3://abc/\xff":                          `has a prefix with`,
		"s3://abc/a\nb":                          `has a prefix with '\n'`,
		"https://abc/a":                          "is neither file:///path nor s3://bucket/prefix",
		"file://host/a":                          "is neither file:///path nor s3://bucket/prefix",
	} {
		err := checkDestination(destination)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", destination, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: a secret is repeated: %v", destination, err)
		}
	}
}

// The default destination is in data_dir, whatever characters its name contains.
func TestTheDefaultDestinationIsInADataDirOfAnyName(t *testing.T) {
	for _, dir := range []string{"/a#b", "/a?b", "/50%", "/a b", "/ü"} {
		c := mustLoad(t, "data_dir: '"+dir+"'")
		u, err := url.Parse(c.Shipper.Destination)
		if err != nil || u.Path != dir+"/archive" || checkDestination(c.Shipper.Destination) != nil {
			t.Errorf("%s: %s: %v", dir, c.Shipper.Destination, err)
		}
	}
}
