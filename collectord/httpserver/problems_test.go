package httpserver

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/problems.md")

// TestEveryProblemHasItsParagraph compares docs/problems.md with the table of kinds.
func TestEveryProblemHasItsParagraph(t *testing.T) {
	const path = "../../docs/problems.md"
	var b strings.Builder
	b.WriteString(`# Problems

The HTTP server answers every rejected request with a problem ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

` + "```json" + `
{"type":"` + DefaultProblemBase + `#not_an_object","title":"Bad Request","status":400,"code":"not_an_object","detail":"…"}
` + "```" + `

- ` + "`code`" + ` is stable: programs can compare it. ` + "`type`" + ` links to the paragraph of the code on this page; ` + "`http.problem_base`" + `
  is the address where your clients find the page.
- ` + "`detail`" + ` gives the reason and, for a body, the offset of the first wrong byte (decoded, from 0). It never repeats what
  was sent.
- A problem about the usages of a batch also has ` + "`accepted`, `rejected`" + ` and ` + "`errors`" + `, like an answer with status 200. One
  about a batch as a whole, such as an array that is not valid JSON, has none of them.
- The statuses 409, 429 and 503 have ` + "`Retry-After`" + `. After 408 and 500, too, the request can be repeated. After any other
  status, a repetition gives the same problem until the request is changed.

`)
	for _, k := range ProblemKinds() {
		fmt.Fprintf(&b, "## %s\n\n**%d.** %s %s\n\n", k.Code, k.Status, k.Meaning, k.Advice)
	}
	want := strings.TrimSuffix(b.String(), "\n")
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(path); err != nil || string(is) != want {
		t.Errorf("%s differs from the table of problems (go test ./collectord/httpserver -run Paragraph -update rewrites it): %v", path, err)
	}
}
