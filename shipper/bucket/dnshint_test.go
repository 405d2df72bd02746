package bucket

import (
	"strings"
	"testing"
)

func TestAnUnknownNameOfAWSIsPerhapsAMissingEndpoint(t *testing.T) {
	for host, want := range map[string]string{
		"usages.s3.amazonaws.com":           "set shipper.s3.endpoint",
		"s3.dualstack.eu-1.amazonaws.com":   "set shipper.s3.endpoint",
		"minio.example":                     "is the name in shipper.s3.endpoint right?",
		"amazonaws.com.storage.example.org": "is the name in shipper.s3.endpoint right?",
	} {
		if hint := dnsHint(host); !strings.Contains(hint, want) {
			t.Errorf("%s: %s", host, hint)
		}
	}
}
