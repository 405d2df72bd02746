package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// row is a row of the dashboard. Rows for the search of a cause are folded.
type row struct {
	title  string
	folded bool
	panels []panel
}

func newDashboard() *dashboard.DashboardBuilder {
	d := dashboard.NewDashboardBuilder("collectord").
		Uid("collectord").
		Description("One host or all hosts with collectord. What the alerts mean is in docs/monitoring.md.").
		Tags([]string{"collectord"}).
		Readonly().
		Time("now-6h", "now").
		Refresh("1m").
		Timezone(common.TimeZoneBrowser).
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(selection("job", "Job", `label_values(collectord_build_info, job)`)).
		WithVariable(selection("instance", "Host", `label_values(collectord_build_info{job=~"$job"}, instance)`)).
		WithVariable(dashboard.NewCustomVariableBuilder("top").Label("Hosts a panel").
			Description("Panels that show single hosts show this many: those that stand out most in the time shown.").
			Values(text("5,10,20,50")).Current(option("10"))).
		Annotation(restarts())
	id, y := uint32(0), uint32(0)
	next := func() uint32 { id++; return id }
	for _, r := range rows() {
		title := dashboard.NewRowBuilder(r.title).Id(next()).Collapsed(r.folded).GridPos(dashboard.GridPos{Y: y, W: gridWidth, H: 1})
		y++
		x, height := uint32(0), uint32(0)
		var panels []cog.Builder[dashboard.Panel]
		for _, p := range r.panels {
			if x+p.width > gridWidth {
				x, y, height = 0, y+height, 0
			}
			panels = append(panels, p.build(next(), dashboard.GridPos{X: x, Y: y, W: p.width, H: p.height}))
			x, height = x+p.width, max(height, p.height)
		}
		y += height
		for _, p := range panels {
			if r.folded {
				title = title.WithPanel(p)
			}
		}
		d = d.WithRow(title)
		for _, p := range panels {
			if !r.folded {
				d = d.WithPanel(p)
			}
		}
	}
	return d
}

// selection is a variable with several values, or all.
func selection(name, label, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Query(text(query)).Datasource(datasource()).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortNaturalAsc).
		Multi(true).IncludeAll(true).AllValue(".*").Current(dashboard.VariableOption{
		Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}}, Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
	})
}

// restarts marks the starts of up to five daemons. More marks would cover the panels.
func restarts() *dashboard.AnnotationQueryBuilder {
	return dashboard.NewAnnotationQueryBuilder().Name("Starts").Enable(true).IconColor("blue").Datasource(datasource()).
		Expr(selectHosts(`process_start_time_seconds{HOSTS} * 1000 and on () count(up{HOSTS}) <= 5`)).UseValueForTime(true).
		TitleFormat("collectord started").TextFormat("{{instance}}")
}

func datasource() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

func text(s string) dashboard.StringOrMap { return dashboard.StringOrMap{String: &s} }

func option(s string) dashboard.VariableOption {
	return dashboard.VariableOption{Text: dashboard.StringOrArrayOfString{String: &s}, Value: dashboard.StringOrArrayOfString{String: &s}}
}
