package httpserver

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"collectord/collectord/usage"
)

// TestOpenAPIHasEveryProblem compares docs/openapi.yaml with the table of problems: each
// status has the codes that the table gives it, and no other.
func TestOpenAPIHasEveryProblem(t *testing.T) {
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	want := map[int][]string{}
	for _, k := range ProblemKinds() {
		want[k.Status] = append(want[k.Status], k.Code)
	}
	responses, _ := lookUp(doc, "paths", "/api/usages", "post", "responses").(map[string]any)
	for status, codes := range want {
		response := responses[strconv.Itoa(status)]
		if status == 404 || status == 405 { // only for other paths and methods
			response = responses["default"]
		}
		enum := codesIn(doc, response)
		slices.Sort(codes)
		switch {
		case status == 404 || status == 405:
			if !slices.Contains(enum, codes[0]) {
				t.Errorf("the default response lacks %s", codes[0])
			}
		case !slices.Equal(enum, codes):
			t.Errorf("%d has the codes %v, want %v", status, enum, codes)
		}
		delete(responses, strconv.Itoa(status))
	}
	if extra := slices.Sorted(maps.Keys(responses)); !slices.Equal(extra, []string{"200", "201", "default"}) {
		t.Errorf("responses without a problem: %v", extra)
	}
	ofUsages := slices.Sorted(slices.Values(usage.Codes()))
	if got := codesIn(doc, lookUp(doc, "components", "schemas", "UsageError")); !slices.Equal(got, ofUsages) {
		t.Errorf("usages have the codes %v, want %v", got, ofUsages)
	}
}

// codesIn returns the possible values of the member code in a part of the document.
func codesIn(doc, part any) (codes []string) {
	switch p := part.(type) {
	case []any:
		for _, v := range p {
			codes = append(codes, codesIn(doc, v)...)
		}
	case map[string]any:
		if ref, ok := p["$ref"].(string); ok {
			return codesIn(doc, lookUp(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
		}
		for name, v := range p {
			if name != "code" {
				if name != "errors" { // those of usages
					codes = append(codes, codesIn(doc, v)...)
				}
				continue
			}
			enum, _ := lookUp(v, "enum").([]any)
			for _, code := range enum {
				codes = append(codes, fmt.Sprint(code))
			}
		}
	}
	slices.Sort(codes)
	return codes
}

// lookUp returns the value at a path of member names.
func lookUp(v any, names ...string) any {
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}
