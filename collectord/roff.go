package main

import (
	"regexp"
	"strings"
)

// tableRow matches a line of a table in a help text: a term and its meaning, at least two
// blanks apart.
var tableRow = regexp.MustCompile(`^  (\S+(?: \S+)*?)  +(\S.*)$`)

// roffText converts a help text to groff_man(7). Lines with an indent of two blanks are
// rows of a table, and deeper lines after them continue a row. Other lines with an
// indent of four blanks are literal.
func roffText(text string) string {
	var b strings.Builder
	block := "" // "table", "literal", or neither
	enter := func(next string) {
		switch block {
		case next:
			return
		case "table":
			b.WriteString(".RE\n")
		case "literal":
			b.WriteString(".fi\n")
		}
		switch block = next; next {
		case "table":
			b.WriteString(".RS\n")
		case "literal":
			b.WriteString(".IP\n.nf\n")
		}
	}
	empty := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		indented := len(line) - len(strings.TrimLeft(line, " "))
		cells := tableRow.FindStringSubmatch(line)
		switch {
		case line == "":
			empty = true
			continue
		case indented == 0:
			if block != "" || empty {
				enter("")
				b.WriteString(".IP\n")
			}
		case indented >= 4 && (block != "table" || empty):
			enter("literal")
			line = strings.TrimPrefix(line, "    ")
		case cells != nil && block != "literal":
			enter("table")
			b.WriteString(".TP\n.B " + roff(cells[1]) + "\n")
			line = cells[2]
		case indented == 2 && block != "literal":
			enter("table")
			b.WriteString(".IP\n")
		}
		empty = false
		if block != "literal" {
			line = strings.TrimSpace(line)
		}
		b.WriteString(roffLine(line) + "\n")
	}
	enter("")
	return strings.TrimSuffix(b.String(), "\n")
}

// roffExample converts an example to literal text.
func roffExample(text string) string {
	return ".RS\n.nf\n" + roffLines(text) + ".fi\n.RE\n"
}

func roffLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(roffLine(strings.TrimPrefix(strings.TrimRight(line, "\n"), "  ")) + "\n")
	}
	return b.String()
}

// roffLine escapes a line of text, so that it can't start with a roff request.
func roffLine(line string) string {
	line = roff(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// roff escapes the characters that are special in groff_man(7).
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "~", `\(ti`, "^", `\(ha`).Replace(s)
}
