package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

func TestDashboardFileMatchesTheCode(t *testing.T) {
	made, err := dashboardJSON()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, kept) {
		t.Error("dashboard.json is outdated: run go run . >dashboard.json")
	}
}

// TestDashboardIsValidForGrafana parses the dashboard with the library's strict parser, and
// checks rules of our own.
func TestDashboardIsValidForGrafana(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard.Dashboard
	if err := new(dashboard.Dashboard).UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // it may return an empty list of errors
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	var panels []dashboard.Panel
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			panels = append(panels, p.RowPanel.Panels...)
		} else {
			panels = append(panels, *p.Panel)
		}
	}
	ids, taken := map[uint32]string{}, map[[2]uint32]string{}
	for _, p := range panels {
		if p.Title == nil || p.Description == nil || p.Id == nil || p.GridPos == nil {
			t.Fatalf("a panel lacks a title, a description, an id or a position: %+v", p)
		}
		title := *p.Title
		if !slices.Contains([]string{"stat", "table", "timeseries"}, p.Type) {
			t.Errorf("%s has the type %s", title, p.Type)
		}
		if other := ids[*p.Id]; other != "" {
			t.Errorf("%s and %s have the same id", title, other)
		}
		ids[*p.Id] = title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]uint32{x, y}]; other != "" || x >= gridWidth {
					t.Fatalf("%s covers %s, or leaves the grid", title, other)
				}
				taken[[2]uint32{x, y}] = title
			}
		}
		unit, err := json.Marshal(p.FieldConfig)
		if err != nil || !strings.Contains(string(unit), `"unit"`) {
			t.Errorf("%s has no unit", title)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s has no query", title)
		}
		for _, q := range p.Targets {
			expr := q.(*prometheus.Dataquery).Expr
			if !strings.Contains(expr, `job=~"$job", instance=~"$instance"`) {
				t.Errorf("%s ignores the selected hosts: %s", title, expr)
			}
			// A line for each of 500 hosts would be unreadable.
			aggregates := []string{"sum", "count", "max(", "min(", "topk(", "bottomk(", "max by (alertname", "histogram_quantile(", "clamp_max(min("}
			if !slices.ContainsFunc(aggregates, func(a string) bool { return strings.Contains(expr, a) }) {
				t.Errorf("%s shows every host: %s", title, expr)
			}
		}
	}
}
