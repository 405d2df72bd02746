package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// ownCopyright is the first part of Debian's copyright file.
const ownCopyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: collectord
Comment: The program is linked with the Go modules below; the directory of each
 is its import path.

Files: *
Copyright: 2026 The collectord maintainers
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
`

var (
	// apacheTerms matches the terms that every Debian system contains in
	// /usr/share/common-licenses.
	apacheTerms     = regexp.MustCompile(`(?s)[ \t]*Apache License\s+Version 2\.0, January 2004.*?additional\s+liability\.(\s*END OF TERMS AND CONDITIONS)?`)
	copyrightHolder = regexp.MustCompile(`(?mi)^[\s/*#-]*(?:portions )?copyright\s+(?:\(c\)\s*|©\s*)*(\d.*?)[\s*]*$`)
)

// writeCopyright writes Debian's copyright file, with the licence of each linked module.
func writeCopyright(w io.Writer) error {
	all, err := linkedModules(".")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, copyrightOf(all))
	return err
}

func copyrightOf(all []module) string {
	text := ownCopyright
	for _, m := range all {
		holders := ""
		for _, found := range copyrightHolder.FindAllStringSubmatch(m.text, -1) {
			if line := "\n " + found[1]; !strings.Contains(holders+"\n", line+"\n") {
				holders += line
			}
		}
		if holders == "" {
			holders = "\n its authors"
		}
		text += fmt.Sprintf("\nFiles: %s/*\nCopyright:%s\nLicense: %s\n%s", m.path, holders, strings.ReplaceAll(m.licence, "AND", "and"),
			indented(apacheTerms.ReplaceAllString(m.text, "The terms of the Apache License, version 2.0, are in\n/usr/share/common-licenses/Apache-2.0.")))
	}
	return text
}

// indented formats text as a continued field value: lines are indented, and a blank line
// becomes a dot.
func indented(text string) (all string) {
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimRight(line, " \t"); line == "" {
			line = "."
		}
		all += " " + line + "\n"
	}
	return all
}
