// Package docs gives tests the commands and queries of the pages, so that they run what the
// pages show. Its own tests check links, names and lengths of the pages and of README.md.
package docs

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed *.md
var pages embed.FS

// Block returns the only code block of a language in a page that contains word. It replaces
// old texts with new ones, in pairs, as a user would. An old text that is not in the block is
// an error.
func Block(page, language, word string, change ...string) (string, error) {
	text, err := pages.ReadFile(page)
	if err != nil {
		return "", err
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[1], word) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d blocks of %s with %s in docs/%s", len(found), language, word, page)
	}
	block := found[0]
	for i := 0; i < len(change); i += 2 {
		if !strings.Contains(block, change[i]) {
			return "", fmt.Errorf("no %s in %s", change[i], block)
		}
		block = strings.ReplaceAll(block, change[i], change[i+1])
	}
	return block, nil
}
