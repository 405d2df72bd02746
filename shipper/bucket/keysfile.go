package bucket

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"gopkg.in/ini.v1"
)

// keysFileSyntax is the syntax of the AWS command line. A value ends with its line,
// quotes and backslashes are part of it, and a comment begins with a # or ; after white
// space.
var keysFileSyntax = ini.LoadOptions{ //nolint:gochecknoglobals // a constant
	InsensitiveKeys:         true,
	IgnoreContinuation:      true,
	PreserveSurroundedQuote: true,
	IgnoreInlineComment:     true,
}

var inlineComment = regexp.MustCompile(`\s[#;].*`)

// readKeysFile reads the profile AWS_PROFILE, or else default, of a file in the format of
// ~/.aws/credentials.
//
// The library reads only the profiles that name a login instead of keys. It would take quotes
// and # in keys for syntax, repeat lines of the file in its errors, and wait for a program
// without end.
func readKeysFile(path string, cc *credentials.CredContext) (credentials.Value, error) {
	p, err := parseKeysFile(path)
	switch {
	case err != nil || p.AccessKeyID != "" || p.SecretAccessKey != "":
		return p.Value, err
	case p.program != "" && !p.login:
		ctx := context.Background()
		if cc != nil && cc.Context != nil {
			ctx = cc.Context
		}
		return runKeysProgram(ctx, p.program, keysProgramTimeout)
	}
	return (&credentials.FileAWSCredentials{Filename: path, Profile: profile()}).RetrieveWithCredContext(cc)
}

func profile() string { return cmp.Or(os.Getenv("AWS_PROFILE"), "default") }

// keysProfile is a profile of a keys file: keys, or where they are.
type keysProfile struct {
	credentials.Value
	program string // credential_process
	login   bool   // sso_role_name is set
}

// isElsewhere reports whether a program or a login has the keys.
func (p *keysProfile) isElsewhere() bool {
	return p.AccessKeyID == "" && p.SecretAccessKey == "" && (p.program != "" || p.login)
}

// parseKeysFile returns the profile AWS_PROFILE, or else default, of a file.
func parseKeysFile(path string) (p keysProfile, err error) {
	text, err := readSettings(path)
	if err != nil {
		return p, err
	}
	file, err := ini.LoadSources(keysFileSyntax, text)
	if err != nil { // the error's text may contain a secret
		return p, errors.New("it is not a credentials file: write [default], then lines of the form aws_access_key_id = …")
	}
	section, err := file.GetSection(profile())
	if err != nil {
		return p, fmt.Errorf("it has no profile %q: write [%[1]s] above the keys, or set AWS_PROFILE", profile())
	}
	value := func(name string) string { return inlineComment.ReplaceAllString(section.Key(name).Value(), "") }
	return keysProfile{
		Value: credentials.Value{
			AccessKeyID: value("aws_access_key_id"), SecretAccessKey: value("aws_secret_access_key"),
			SessionToken: value("aws_session_token"), SignerType: credentials.SignatureV4,
		},
		program: withoutQuotes(value("credential_process")), login: section.HasKey("sso_role_name"),
	}, nil
}

// withoutQuotes removes the quotes around a whole value.
func withoutQuotes(value string) string {
	for _, quote := range []string{`"`, "'"} {
		if inner, _, ok := strings.Cut(strings.TrimPrefix(value, quote), quote); ok && value == quote+inner+quote {
			return strings.TrimSpace(inner)
		}
	}
	return value
}

// maxSettings is the max size in bytes of a file with keys or certificates.
const maxSettings = 16 << 20

// readSettings reads a file with keys or certificates. It rejects a pipe, which would block,
// and a device, which may have no end.
func readSettings(path string) ([]byte, error) {
	switch info, err := os.Stat(path); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() && !info.IsDir():
		return nil, errors.New("is not a regular file, and can't be read again: write its content to a file")
	case info.Size() > maxSettings:
		return nil, errors.New("has more than 16MiB: name another file")
	}
	content, err := os.ReadFile(path)
	return bytes.TrimPrefix(content, []byte("\ufeff")), err // which programs on Windows write
}

// checkKeys returns an error for keys that can't sign a request.
func checkKeys(v credentials.Value) error {
	if v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return errors.New("a key and its secret are needed, and one or both are missing")
	}
	for _, part := range []struct{ name, value string }{
		{"access key", v.AccessKeyID}, {"secret", v.SecretAccessKey}, {"session token", v.SessionToken},
	} {
		if strings.ContainsFunc(part.value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("the %s contains a line break or another control character: remove it", part.name)
		}
	}
	return nil
}
