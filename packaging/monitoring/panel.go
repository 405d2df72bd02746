package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// gridWidth is the width of a dashboard, in units of Grafana's grid.
const gridWidth = 24

// panel is one panel, whatever it looks like.
type panel struct {
	width, height uint32 // in the grid
	build         func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel]
}

// query is a query of a panel, and what its series are called.
type query struct{ expr, legend string }

// look is what panels of all kinds have.
type look struct {
	title, help string
	unit        string
	levels      []level // the first begins at -infinity
	width       uint32  // 0: as usual
	max         float64 // of the axis; 0: as the values are
}

// level is a colour from a value on.
type level struct {
	from   float64
	colour string
}

// rising is green, then yellow and red from these values on.
func rising(warning, critical float64) []level {
	return []level{{0, "green"}, {warning, "yellow"}, {critical, "red"}}
}

// falling is red, then yellow and green from these values on.
func falling(critical, warning float64) []level {
	return []level{{0, "red"}, {critical, "yellow"}, {warning, "green"}}
}

// none is green for 0 and red above.
func none() []level { return []level{{0, "green"}, {1, "red"}} }

func thresholds(levels []level) *dashboard.ThresholdsConfigBuilder {
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps(levels))
}

func steps(levels []level) []dashboard.Threshold {
	if len(levels) == 0 {
		levels = []level{{0, "green"}}
	}
	all := []dashboard.Threshold{{Color: levels[0].colour}}
	for _, l := range levels[1:] {
		all = append(all, dashboard.Threshold{Value: cog.ToPtr(l.from), Color: l.colour})
	}
	return all
}

// hosts puts the hosts that were chosen in the place of HOSTS.
func hosts(expr string) string {
	return strings.ReplaceAll(expr, "HOSTS", `job=~"$job", instance=~"$instance"`)
}

// most is expr for the hosts of which ranking is highest at the end of the time shown:
// topk alone would choose anew for every point.
func most(expr, ranking string) string {
	return fmt.Sprintf("%s and on (job, instance) topk($top, max by (job, instance) (%s))", expr, atEnd(ranking))
}

// least is expr for the hosts of which ranking is lowest.
func least(expr, ranking string) string {
	return fmt.Sprintf("%s and on (job, instance) bottomk($top, min by (job, instance) (%s))", expr, atEnd(ranking))
}

func atEnd(expr string) string { return strings.ReplaceAll(expr, "[$__range]", "[$__range] @ end()") }

// highest is a gauge of the hosts on which it was highest in the time shown.
func highest(gauge string) query {
	return query{most(gauge, "max_over_time("+gauge+"[$__range])"), "{{instance}}"}
}

// lowest is a gauge of the hosts on which it was lowest.
func lowest(gauge string) query {
	return query{least(gauge, "min_over_time("+gauge+"[$__range])"), "{{instance}}"}
}

// fastest is how fast a counter rose on the hosts on which it rose most.
func fastest(counter string) query {
	rose := func(function, interval string) string {
		return fmt.Sprintf("sum by (job, instance) (%s(%s[%s]))", function, counter, interval)
	}
	return query{most(rose("rate", "$__rate_interval"), rose("increase", "$__range")), "{{instance}}"}
}

// quantile is that of a histogram of all hosts together.
func quantile(q float64, histogram string) query {
	return query{fmt.Sprintf("histogram_quantile(%g, sum by (le) (rate(%s[$__rate_interval])))", q, histogram), fmt.Sprintf("p%g", 100*q)}
}

// slowest is a quantile of a histogram on the hosts where it was highest.
func slowest(q float64, histogram string) query {
	of := func(interval string) string {
		return fmt.Sprintf("histogram_quantile(%g, sum by (job, instance, le) (rate(%s[%s])))", q, histogram, interval)
	}
	return query{most(of("$__rate_interval"), of("$__range")), "{{instance}}"}
}

func target(q query) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(hosts(q.expr)).LegendFormat(q.legend)
}

func refID(i int) string { return string(rune('A' + i)) }

// lines is a panel of values over time.
func lines(l look, queries ...query) panel {
	return panel{cmp.Or(l.width, 8), 8, func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
		p := timeseries.NewPanelBuilder().Id(id).Title(l.title).Description(l.help).Unit(l.unit).GridPos(at).Datasource(source()).
			Min(0).LineWidth(1).FillOpacity(8).ShowPoints(common.VisibilityModeAuto).Thresholds(thresholds(l.levels)).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
				Placement(common.LegendPlacementBottom).Calcs([]string{"lastNotNull", "max"})).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
		if len(l.levels) > 0 {
			p = p.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
		}
		if l.max > 0 {
			p = p.Max(l.max)
		}
		for i, q := range queries {
			p = p.WithTarget(target(q).RefId(refID(i)).Range())
		}
		return p
	}}
}

// number is a panel of one value, as of now.
func number(l look, q query) panel {
	return panel{cmp.Or(l.width, 4), 4, func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
		return stat.NewPanelBuilder().Id(id).Title(l.title).Description(l.help).Unit(l.unit).GridPos(at).Datasource(source()).
			Thresholds(thresholds(l.levels)).ColorMode(common.BigValueColorModeValue).GraphMode(common.BigValueGraphModeNone).Orientation(common.VizOrientationAuto).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
			WithTarget(target(q).RefId("A").Instant())
	}}
}

// column is a query of a table, and how its values are shown.
type column struct {
	name, expr, unit string
	levels           []level
}

// list is a table with one line for each host, or whatever else the queries tell apart,
// the highest values of its first column first.
func list(l look, by []string, columns ...column) panel {
	return panel{cmp.Or(l.width, gridWidth), 9, func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
		p := table.NewPanelBuilder().Id(id).Title(l.title).Description(l.help).GridPos(at).Datasource(source()).
			Filterable(true).Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{"sum"})).WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}}).
			SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName(columns[0].name).Desc(true)})
		order, names := map[string]any{}, map[string]any{}
		for i, name := range by {
			order[name] = i
		}
		for i, c := range columns {
			p = p.WithTarget(target(query{c.expr, ""}).RefId(refID(i)).Instant().Format(prometheus.PromQueryFormatTable))
			value := "Value"
			if len(columns) > 1 {
				value = "Value #" + refID(i)
			}
			order[value], names[value] = len(by)+i, c.name
			p = p.OverrideByName(c.name, c.properties())
		}
		return p.WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": map[string]any{"Time": true, "job": true}, "indexByName": order, "renameByName": names,
		}})
	}}
}

func (c column) properties() []dashboard.DynamicConfigValue {
	properties := []dashboard.DynamicConfigValue{{Id: "unit", Value: c.unit}}
	if len(c.levels) > 0 {
		properties = append(properties,
			dashboard.DynamicConfigValue{Id: "thresholds", Value: dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: steps(c.levels)}},
			dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]any{"type": "color-text"}})
	}
	return properties
}
