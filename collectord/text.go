package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Text from outside (names of objects and files, reasons, usages, answers of servers)
// is made safe for a terminal in two steps. writef quotes each value, so that a value
// can't add a line or imitate one. Standard output and standard error are each a
// visibleWriter, which also escapes control characters in text that bypassed writef.

// writef is fmt.Fprintf for text that people read. It quotes each argument that
// contains unprintable text. It returns no error: a caller that needs one flushes a
// buffered writer.
func writef(w io.Writer, format string, args ...any) {
	safe := make([]any, len(args))
	for i, a := range args {
		switch reflect.ValueOf(a).Kind() {
		case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Float64:
			if _, ok := a.(fmt.Stringer); !ok {
				safe[i] = a
				continue
			}
		}
		safe[i] = quoted(fmt.Sprint(a))
	}
	fmt.Fprintf(w, format, safe...)
}

// quoted returns a printable text unchanged, and any other text as a quoted Go string.
func quoted(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// nodeName formats the name of a node. Object names can contain any node, so it quotes
// empty and invalid names, which could imitate other text.
type nodeName string

func (n nodeName) String() string {
	for _, c := range []byte(n) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return strconv.Quote(string(n))
		}
	}
	if n == "" {
		return `""`
	}
	return string(n)
}

// errorText formats the error of a command, with a line for each joined error.
func errorText(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if parts := joined.Unwrap(); err.Error() == errors.Join(parts...).Error() {
			var text strings.Builder
			for _, part := range parts {
				text.WriteString(errorText(part))
			}
			return text.String()
		}
	}
	return "collectord: " + quoted(err.Error()) + "\n"
}

// visibleWriter writes text in which every character is visible. It replaces terminal
// control characters and bidi controls by JSON escapes, so that JSON keeps its value.
// It retains an incomplete character until the next write.
type visibleWriter struct {
	out     io.Writer
	partial []byte
}

func (w *visibleWriter) Write(p []byte) (int, error) {
	text := p
	if len(w.partial) > 0 {
		text = append(w.partial, p...)
	}
	whole := len(text) - partialRune(text)
	rest := slices.Clone(text[whole:])
	if _, err := w.out.Write(visible(text[:whole])); err != nil {
		return 0, err
	}
	w.partial = rest
	return len(p), nil
}

// partialRune returns the number of bytes of an incomplete character at the end of
// text.
func partialRune(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return n
			}
			return 0
		}
	}
	return 0
}

// visible returns text with escapes for invisible characters.
func visible(text []byte) []byte {
	if !slices.ContainsFunc(text, func(b byte) bool { return b >= 0x7f || b < ' ' && b != '\n' }) {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}

// recordWriter returns the writer for records: unchanged bytes, or visible text on a
// terminal.
func recordWriter(cmd *cobra.Command) io.Writer {
	out := cmd.OutOrStdout()
	if w, ok := out.(*visibleWriter); ok && !onTerminal(w.out) {
		return w.out
	}
	return out
}

func onTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
