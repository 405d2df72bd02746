package bucket

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

var keysFiles = []struct {
	name, text     string
	secret         string // empty: refused
	inlineComments bool   // botocore treats them as part of the value
}{
	{name: "plain", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=sec\n", secret: "sec"},
	{name: "# and ; inside", text: "[default]\naws_access_key_id=AK\naws_secret_access_key = s#e;c\n", secret: "s#e;c"},
	{name: "# first", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=#sec\n", secret: "#sec"},
	{name: "double quotes", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=\"sec\"\n", secret: `"sec"`},
	{name: "single quotes", text: "[default]\naws_access_key_id=AK\naws_secret_access_key='sec'\n", secret: "'sec'"},
	{name: "one quote", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=\"a\\\"b`c$d'\n", secret: "\"a\\\"b`c$d'"},
	{name: "backslash at the end", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=sec\\\naws_session_token=t\n", secret: `sec\`},
	{name: "backslash at the end of the file", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=sec\\", secret: `sec\`},
	{name: "backslash and #", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=a\\#b\n", secret: `a\#b`},
	{name: "= and : inside", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=a=b:c\n", secret: "a=b:c"},
	{name: "colon for =", text: "# c\n; c\n[default]\n  # c\naws_access_key_id : AK\nAWS_Secret_Access_Key: sec\n", secret: "sec"},
	{name: "percent signs", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=%s%(aws_access_key_id)s%%\n", secret: "%s%(aws_access_key_id)s%%"},
	{name: "white space around", text: "[default]\naws_access_key_id = \t AK \t\naws_secret_access_key\t=\tsec\t\n", secret: "sec"},
	{name: "indented", text: "[default]\n aws_access_key_id=AK\n aws_secret_access_key=sec\n", secret: "sec"},
	{name: "CRLF", text: "[default]\r\naws_access_key_id=AK\r\naws_secret_access_key=sec\r\n", secret: "sec"},
	{name: "comment behind the section", text: "[default] # c\naws_access_key_id=AK\naws_secret_access_key=sec\n", secret: "sec"},
	{name: "nested settings", text: "[default]\ns3 =\n  x = 1\naws_access_key_id=AK\naws_secret_access_key=sec\n", secret: "sec"},
	{name: "other profiles", text: "[a]\naws_secret_access_key=x\n[default]\naws_access_key_id=AK\naws_secret_access_key=sec\n[b]\naws_secret_access_key=y\n", secret: "sec"},
	{name: "# behind white space", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=sec # c\n", secret: "sec", inlineComments: true},
	{name: "; behind white space", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=sec\t; c\n", secret: "sec", inlineComments: true},

	{name: "no section", text: "aws_access_key_id=AK\naws_secret_access_key=sec\n"},
	{name: "no secret", text: "[default]\naws_access_key_id=AK\naws_secret_access_key=\n"},
	{name: "no =", text: "[default]\naws_access_key_id=AK\naws_secret_access_key\n"},
	{name: "a line of nonsense", text: "[default]\nSECRET\naws_access_key_id=AK\naws_secret_access_key=sec\n"},
	{name: "another file", text: "{\"SECRET\": 1}\n"},
}

func TestKeysFilesAreReadAsTheAWSCommandLineDoes(t *testing.T) {
	t.Setenv("AWS_PROFILE", "")
	for _, c := range keysFiles {
		path := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &keyProvider{from: path, file: path}
		v, err := p.Retrieve()
		var wrong *credentialError
		switch {
		case c.secret == "" && !errors.As(err, &wrong):
			t.Errorf("%s: %+v, %v, want an error", c.name, v, err)
		case c.secret == "" && (strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "sec\n")):
			t.Errorf("%s: the error quotes the file: %v", c.name, err)
		case c.secret != "" && (err != nil || v.AccessKeyID != "AK" || v.SecretAccessKey != c.secret):
			t.Errorf("%s: %q, %q, %v, want %q", c.name, v.AccessKeyID, v.SecretAccessKey, err, c.secret)
		}
	}
}

// TestKeysFilesAreReadAsBotocoreDoes compares with the library of the AWS command line.
func TestKeysFilesAreReadAsBotocoreDoes(t *testing.T) {
	const script = `
import json, sys, botocore.configloader
def secret(path):
    try:
        return botocore.configloader.raw_config_parse(path)["default"]["aws_secret_access_key"]
    except Exception:
        return ""
print(json.dumps([secret(path) for path in sys.argv[1:]]))`
	if exec.Command("python3", "-c", "import botocore").Run() != nil {
		t.Skip("python3 with botocore is not installed")
	}
	dir, args := t.TempDir(), []string{"-c", script}
	for i, c := range keysFiles {
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out, err := exec.Command("python3", args...).Output()
	var secrets []string
	if err != nil || json.Unmarshal(out, &secrets) != nil || len(secrets) != len(keysFiles) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, c := range keysFiles {
		if secrets[i] != c.secret && !c.inlineComments {
			t.Errorf("%s: botocore reads %q, the table has %q", c.name, secrets[i], c.secret)
		}
	}
}

func TestKeysThatCanNotSignAreRejectedByName(t *testing.T) {
	for name, v := range map[string]credentials.Value{
		"access key":    {AccessKeyID: "AK\n", SecretAccessKey: "s"},
		"secret":        {AccessKeyID: "AK", SecretAccessKey: "hidden\r"},
		"session token": {AccessKeyID: "AK", SecretAccessKey: "s", SessionToken: "a\nb"},
	} {
		t.Setenv("AWS_ACCESS_KEY_ID", v.AccessKeyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", v.SecretAccessKey)
		t.Setenv("AWS_SESSION_TOKEN", v.SessionToken)
		_, err := (&keyProvider{from: "the AWS_* variables", Provider: &credentials.EnvAWS{}}).Retrieve()
		var wrong *credentialError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "the "+name+" contains") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
