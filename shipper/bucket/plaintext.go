package bucket

import (
	"bytes"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"unicode"
)

// maxText is the max number of characters of a page in an error.
const maxText = 200

var (
	invisible = regexp.MustCompile(`(?is)<script\b.*?</script\s*>|<style\b.*?</style\s*>|<svg\b.*?</svg\s*>|<title\b.*?</title\s*>|<!--.*?-->`)
	title     = regexp.MustCompile(`(?is)<title\b[^>]*>(.*?)</title`)
	tag       = regexp.MustCompile(`(?s)<[^>]*>`)
)

// plainText returns the title and text of a page, without HTML, on one line.
func plainText(page []byte) string {
	text := invisible.ReplaceAllString(string(page), " ")
	if t := title.FindSubmatch(page); t != nil {
		text = string(t[1]) + ". " + text
	}
	text = html.UnescapeString(tag.ReplaceAllString(text, " "))
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxText {
		text = string(runes[:maxText]) + " …"
	}
	return text
}

// stripHTML replaces a page by its text, since the library copies the body into its
// error.
func stripHTML(resp *http.Response, start []byte) {
	if root := rootOf(start); root != "html" && (root != "" || len(start) == 0 || !isHTML(resp)) {
		return
	}
	page, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // a part of the page is enough
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader([]byte(plainText(page))))
}

func isHTML(resp *http.Response) bool {
	kind := resp.Header.Get("Content-Type")
	return strings.HasPrefix(kind, "text/html") || strings.HasPrefix(kind, "application/xhtml")
}
