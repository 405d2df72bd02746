package config

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// markdownIntro is the part of docs/configuration.md before the keys.
const markdownIntro = `# Configuration

<!-- Generated from the table of keys by: go test ./config -update -->

collectord reads ` + "`" + DefaultPath + "`" + `, or the file that ` + "`--config`" + ` names. It is YAML: sections that contain keys. On this page a key
is written with its section, as in ` + "`http.listen`" + `. Each key can also be set by a variable of the environment, and the common
ones by a flag. A flag overrides the environment, the environment overrides the file, and the file overrides
the default.

    collectord config example    # every key with its default, explained (packaging/collectord.yaml); flags set theirs
    collectord config check      # everything that is wrong, at once, with key, line and the nearest valid key, and with the files
    collectord config print      # what is in effect, and where each value comes from (--json for programs)
    collectord config man        # this reference as collectord.yaml(5)

## Values

- A **size** is a number of bytes, or has a unit: B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000).
- A **rate** is a size and ` + "`/s`" + `. A **duration** has its unit: ms, s, m or h.
- A **list** is a YAML list, or one text with commas. YAML anchors are not supported.

## Mistakes

A configuration with a mistake starts nothing: ` + "`run`" + ` exits with 78, ` + "`config check`" + ` with 2. [Both find the same][same]: unknown
keys, wrong values, impossible combinations, and files and directories that are missing, broken or not accessible to the
daemon's user. As root, ` + "`config check`" + ` uses the permissions of the owner of the log in ` + "`data_dir`" + `, or of the user that the
packages made; ` + "`--user NAME`" + ` names another. It warns of [variables that only the service
has](operations.md#variables-and-credentials-of-the-service). Commands that read the log or the bucket need only the keys
they use: a wrong value of [another key is a warning][unused]. An unknown key is always an error.

By default only loopback is listened on. Beyond it HTTP needs [authentication](http-api.md#authentication), and UDP needs
` + "`udp.allow`" + `.

## Reload

SIGHUP makes a running daemon read file, environment and flags again. Either all changes take effect or, if there is a
mistake, none. A log line gives the old and the new value of each changed key. Keys marked **live** below change at once,
and so does the content of the files that the live keys name. The others need a restart; the line lists those that differ
under ` + "`needs_restart`" + `. ` + "`collectord_config_last_reload_successful`" + ` is 0 after a reload that failed.
`

const markdownTests = `
[same]: ../collectord/operator_validation_test.go "TestCheckAndRunFindTheSameMistakes, TestCheckIsAsTheDaemonsUser"
[unused]: ../collectord/operator_forensics_test.go "TestUnusedKeysAreNotNeeded"
`

// markdown returns the content of docs/configuration.md.
func markdown() string {
	var b strings.Builder
	b.WriteString(markdownIntro)
	section := ""
	for _, k := range keys {
		s, _, inSection := strings.Cut(k.Name, ".")
		s = "`" + s + "`"
		if !inSection {
			s = "The host"
		}
		if s != section {
			section = s
			fmt.Fprintf(&b, "\n## %s\n", s)
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n\n%s", k.Name, prose(k.Doc), upperFirst(k.Kind()))
		if k.Default == "" {
			b.WriteString("; empty by default.")
		} else {
			fmt.Fprintf(&b, "; default `%s`.", k.Default)
		}
		if k.Live {
			b.WriteString(" **Live.**")
		}
		fmt.Fprintf(&b, " `%s`", k.Env())
		if k.Flag != "" {
			fmt.Fprintf(&b, ", `--%s`", k.Flag)
		}
		b.WriteString("\n")
	}
	b.WriteString(markdownTests)
	return b.String()
}

// prose formats as code the text that Markdown would interpret.
func prose(doc string) string {
	text := regexp.MustCompile(`\bhttps?://\S*\w|\b[a-z0-9]+(?:_[a-z0-9]+)+\b|\b(?:http|udp|wal|shipper|shutdown|admin|log|net)(?:\.[a-z0-9_]+)+`).
		ReplaceAllStringFunc(strings.ReplaceAll(doc, "\n", " "), func(s string) string { return "`" + s + "`" })
	return strings.NewReplacer("[", `\[`, "*:", `\*:`, "<", `\<`).Replace(text)
}

func TestTheReferenceOfAllKeysIsUpToDate(t *testing.T) {
	compareGenerated(t, "../docs/configuration.md", []byte(markdown()))
	for _, k := range Keys() {
		if !strings.Contains(markdown(), "\n### `"+k.Name+"`\n") || !strings.Contains(markdown(), "`"+k.Env()+"`") {
			t.Errorf("%s is not documented", k.Name)
		}
	}
}
