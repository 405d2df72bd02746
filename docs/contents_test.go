package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDocumentsAreShort(t *testing.T) {
	for _, d := range documents(t) {
		maxLines := 300
		switch lines := strings.Count(d.text, "\n"); {
		case strings.Contains(d.text, "<!-- Generated"):
		case d.path == "README.md" && lines > 150, lines > maxLines:
			t.Errorf("%s has %d lines", d.path, lines)
		}
	}
}

// TestReadersFindTheirWay checks that a new user finds each subject within three clicks: at
// most three links lead from the README to its page.
func TestReadersFindTheirWay(t *testing.T) {
	all := documents(t)
	clicks := map[string]int{"README.md": 0}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		for _, l := range all[queue[0]].links {
			file, _ := all[queue[0]].resolve(l.target)
			if _, seen := clicks[file]; !seen && all[file] != nil {
				clicks[file] = clicks[queue[0]] + 1
				queue = append(queue, file)
			}
		}
	}
	for name := range all {
		if n, ok := clicks[name]; !ok || n > 2 {
			t.Errorf("%s can't be reached from the README in two clicks", name)
		}
	}
	for what, there := range map[string]struct{ page, text string }{
		"install":                            {"README.md", "apt install ./collectord"},
		"a first usage":                      {"README.md", "curl -H 'Content-Type: application/json'"},
		"a token":                            {"docs/http-api.md", "collectord token new"},
		"MinIO":                              {"docs/storages.md", "To ship to MinIO"},
		"a query":                            {"docs/queries.md", "FROM read_json"},
		"what happens at power loss":         {"docs/guarantees.md", "The host loses power"},
		"what to do when shipping fails":     {"docs/shipping.md", "what to do |"},
		"where the UDP server's code begins": {"docs/architecture.md", "`collectord/udpserver/server.go`"},
	} {
		if d := all[there.page]; d == nil || !strings.Contains(d.text, there.text) || clicks[there.page] > 3 {
			t.Errorf("%s: %s does not have %q within three clicks", what, there.page, there.text)
		}
	}
}

// TestTheQuickStartIsWhatMakeRunPrints compares the commands of the README with the hints
// of make run.
func TestTheQuickStartIsWhatMakeRunPrints(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	readme := documents(t)["README.md"].text
	for _, command := range regexp.MustCompile(`(?m)^  (curl|bin/collectord) .*$`).FindAllString(string(makefile), -1) {
		if command = strings.TrimSpace(command); !strings.Contains(readme, "```sh\n"+command+"\n```") {
			t.Errorf("README.md lacks %s", command)
		}
	}
}

// TestTheKindsOfFailuresAreDocumented compares the table of docs/shipping.md with the code:
// each phrase that it quotes is in a hint, and each kind that the code names has a row.
func TestTheKindsOfFailuresAreDocumented(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"../shipper/*.go", "../shipper/bucket/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 10 {
			t.Fatalf("%d files: %v", len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				code.Write(text)
			}
		}
	}
	_, table, _ := strings.Cut(documents(t)["docs/shipping.md"].text, "\n| kind |")
	rows := regexp.MustCompile(`(?m)^\| ([^|]*) \| ([^|]*) \| [^|]+ \|$`).FindAllStringSubmatch(table, -1)
	if len(rows) < 30 {
		t.Fatalf("%d rows", len(rows))
	}
	kinds := ""
	for _, row := range rows {
		kinds += row[1]
		for _, phrase := range regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(row[2], -1) {
			for part := range strings.SplitSeq(phrase[1], "…") {
				if !strings.Contains(code.String(), strings.TrimSpace(part)) {
					t.Errorf("no hint has %q", part)
				}
			}
		}
	}
	_, constants, _ := strings.Cut(code.String(), "\n// Kinds of an Error")
	constants, _, _ = strings.Cut(constants, "\n)\n")
	literals := regexp.MustCompile(`\bKind: +"(\w+)"|\.Kind\b[^=\n]*= "(\w+)"|\bkindDamaged = "(\w+)"`).FindAllStringSubmatch(code.String(), -1)
	inBlock := regexp.MustCompile(`\n\t\w+ += "(\w+)"`).FindAllStringSubmatch(constants, -1)
	if len(literals) < 10 || len(inBlock) < 5 {
		t.Errorf("%d and %d kinds are found in the code", len(literals), len(inBlock))
	}
	for _, m := range slices.Concat(literals, inBlock) {
		if kind := strings.Join(m[1:], ""); !strings.Contains(kinds, "`"+kind+"`") {
			t.Errorf("docs/shipping.md has no row for the kind %s", kind)
		}
	}
}

// TestReadmeFiguresAreThoseOfTheBenchmarks looks for each figure of the README in
// docs/benchmarks.md.
func TestReadmeFiguresAreThoseOfTheBenchmarks(t *testing.T) {
	all := documents(t)
	_, figures, _ := strings.Cut(all["README.md"].text, "\n## Figures\n")
	figures, _, _ = strings.Cut(figures, "\n## ")
	plain := func(text string) string { return strings.ReplaceAll(text, ",", "") }
	measured := regexp.MustCompile(`\d+(?:\.\d+)*`).FindAllString(plain(all["docs/benchmarks.md"].text), -1)
	numbers := regexp.MustCompile(`\d+(?:\.\d+)*`).FindAllString(plain(figures), -1)
	if len(numbers) < 20 {
		t.Errorf("%d figures", len(numbers))
	}
	for _, n := range numbers {
		if !slices.Contains(measured, n) {
			t.Errorf("docs/benchmarks.md does not have %s", n)
		}
	}
}
