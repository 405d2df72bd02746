package config

import (
	"fmt"
	"strings"
)

// Man returns the manual page collectord.yaml(5), the reference of all keys, in roff.
func Man() []byte {
	var b strings.Builder
	b.WriteString(`.\" Made from the table of keys by: collectord config man
.TH COLLECTORD.YAML 5 "" collectord ""
.SH NAME
collectord.yaml \- configuration of collectord
.SH DESCRIPTION
.B collectord
reads ` + roff(DefaultPath) + `, or the file that
.B \-\-config
names. It is YAML: sections that contain keys. On this page a key is written with its section, as in
.BR http.listen .
.PP
Each key can also be set by the variable given with it, and the common ones by a flag. A flag overrides the
variable, the variable overrides the file, and the file overrides the default. A list is written as a YAML list, or as one text
with commas.
.PP
A size is a whole number of bytes, or has a unit: B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of
1000). A rate is a size and /s. A duration has its unit: ms, s, m or h.
.PP
An unknown key, a value without its unit and an impossible combination are errors. All errors are reported at once, each
with its key and its line, and for an unknown key with the nearest valid one.
.B collectord config check
reports them without starting anything.
.PP
SIGHUP makes a running daemon read its configuration again: all changes take effect or, if there is a mistake
in it, none. Keys marked
.I live
change at once. The others need a restart, and the log names those that were changed.
`)
	section := ""
	for _, k := range keys {
		if s := sectionOf(k.Name); s != section || section == "" {
			section = s
			fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(roff(section)))
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n.br\n%s; default %s.", roff(k.Name), roffText(k.Doc), upperFirst(roff(k.Kind())), roff(quote(k.Default)))
		if k.Live {
			b.WriteString(" \\fILive.\\fR")
		}
		fmt.Fprintf(&b, "\n.br\n%s", roff(k.Env()))
		if k.Flag != "" {
			fmt.Fprintf(&b, ", \\fB%s\\fR", roff("--"+k.Flag))
		}
		b.WriteString("\n")
	}
	b.WriteString(".SH SEE ALSO\n.BR collectord (1)\n")
	return []byte(b.String())
}

func sectionOf(key string) string {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i]
	}
	return "the host"
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// roffText escapes a text for roff. No line of the result begins like a roff request.
func roffText(doc string) string {
	lines := strings.Split(roff(doc), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// roff escapes the characters that groff_man(7) would interpret.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
}
