package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	alertRulesFile = "../packaging/monitoring/collectord.rules.yml"
	alertTestsFile = "../packaging/monitoring/collectord.rules.test.yml"
	dashboardFile  = "../packaging/monitoring/dashboard.json"
	monitoringDocs = "../docs/monitoring.md"
)

var updateAlerts = flag.Bool("update-alerts", false, "write the table of docs/monitoring.md anew")

// alertRule is a rule of packaging/monitoring/collectord.rules.yml.
type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func alertRules(t *testing.T) (all []alertRule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alertRule } }
	if err := yaml.Unmarshal([]byte(readFile(t, alertRulesFile)), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// dashboardQuery is a query of the dashboard or of one of its variables.
type dashboardQuery struct{ panel, expr string }

func dashboardQueries(t *testing.T) (all []dashboardQuery) {
	t.Helper()
	var walk func(panel string, v any)
	walk = func(panel string, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(panel, e)
			}
		case map[string]any:
			for _, key := range []string{"title", "name"} {
				if name, ok := v[key].(string); ok && name != "" {
					panel = name
				}
			}
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if text, ok := v[key].(string); ok && (key == "expr" || key == "query" && strings.Contains(text, "(")) {
					all = append(all, dashboardQuery{panel, text})
				}
				walk(panel, v[key])
			}
		}
	}
	var file any
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &file); err != nil {
		t.Fatal(err)
	}
	if walk("", file); len(all) < 50 {
		t.Fatalf("%d queries", len(all))
	}
	return all
}

// TestMonitoringNamesWhatIsExported compares metrics and labels in the alert rules, their
// tests and the dashboard with packaging/metrics.md.
func TestMonitoringNamesWhatIsExported(t *testing.T) {
	t.Parallel()
	documented := documentedMetrics(t)
	texts := map[string]string{"rules": "", "tests": readFile(t, alertTestsFile), "dashboard": ""}
	for _, r := range alertRules(t) {
		texts["rules"] += r.Expr + "\n"
	}
	for _, q := range dashboardQueries(t) {
		texts["dashboard"] += q.expr + "\n"
	}
	metric := regexp.MustCompile(`\b(collectord_[a-z0-9_]+?)(_bucket|_sum|_count)?\b(?:\{([^}]*)\})?`)
	label := regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	for where, text := range texts {
		found := metric.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s: the query has no metric", where)
		}
		for _, m := range found {
			is, ok := documented[m[1]]
			kind, labels, _ := strings.Cut(is, " ")
			if !ok || (m[2] != "") != (kind == "histogram") {
				t.Errorf("%s: %s is not exported", where, m[0])
			}
			known := append(strings.Split(labels, ","), "job", "instance", "le")
			for _, l := range label.FindAllStringSubmatch(m[3], -1) {
				if !slices.Contains(known, l[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
	}
}

// TestAlertsAreTestedAndDocumented compares the rules with their unit tests and with the
// table of docs/monitoring.md.
func TestAlertsAreTestedAndDocumented(t *testing.T) {
	t.Parallel()
	tests := readFile(t, alertTestsFile)
	var table bytes.Buffer
	table.WriteString("| alert | severity | fires when | what to do |\n|---|---|---|---|\n")
	placeholders := strings.NewReplacer("{{ $labels.instance }}", "HOST", "{{ $labels.reason }}", "REASON", "{{ $labels.source }}", "SOURCE",
		"{{ $labels.client }}", "CLIENT", "{{ $labels.name }}", "NAME", "|", `\|`)
	value := regexp.MustCompile(`\{\{ \$value[^}]*\}\}`)
	for _, r := range alertRules(t) {
		anchor := strings.ToLower(r.Alert)
		if !strings.HasPrefix(r.Alert, "Collectord") || r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" {
			t.Errorf("%s has the labels %v", r.Alert, r.Labels)
		}
		if r.Annotations["runbook"] != "docs/monitoring.md#"+anchor {
			t.Errorf("%s has the runbook %q", r.Alert, r.Annotations["runbook"])
		}
		if n := strings.Count(tests, `{alertname="`+r.Alert+`", alertstate="firing"}`); n == 0 {
			t.Errorf("%s has no unit test in which it fires", r.Alert)
		}
		plain := func(annotation string) string {
			text := value.ReplaceAllString(placeholders.Replace(r.Annotations[annotation]), "N")
			if text == "" || strings.Contains(text, "{{") {
				t.Errorf("%s has the %s %q", r.Alert, annotation, text)
			}
			return text
		}
		fires := plain("summary")
		if r.For != "" {
			fires += ", for " + r.For
		}
		fmt.Fprintf(&table, "| <a id=\"%s\"></a>%s | %s | %s | %s |\n", anchor, r.Alert, r.Labels["severity"], fires, plain("description"))
	}
	const begin, end = "<!-- made from the rules: go test ./collectord -run AlertsAreTested -update-alerts -->\n\n", "<!-- end -->"
	docs := readFile(t, monitoringDocs)
	before, rest, ok := strings.Cut(docs, begin)
	_, after, alsoOK := strings.Cut(rest, end)
	if !ok || !alsoOK {
		t.Fatalf("%s lacks the markers of the table", monitoringDocs)
	}
	updated := before + begin + table.String() + "\n" + end + after
	if *updateAlerts {
		if err := os.WriteFile(monitoringDocs, []byte(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if updated != docs {
		t.Errorf("%s has a table of alerts that differs from the rules: run go test ./collectord -run AlertsAreTested -update-alerts", monitoringDocs)
	}
}
