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

// panel is one panel of any kind.
type panel struct {
	width, height uint32 // in grid units
	build         func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel]
}

// query is a query of a panel, and the legend of its series.
type query struct{ expr, legend string }

// panelOptions are common to panels of all kinds.
type panelOptions struct {
	title, help string
	unit        string
	levels      []threshold // the first is for -infinity
	width       uint32      // 0: the default of the kind
	max         float64     // of the axis; 0: automatic
}

// threshold sets the colour of values of at least from.
type threshold struct {
	from   float64
	colour string
}

// rising returns green, then yellow and red from these values on.
func rising(warning, critical float64) []threshold {
	return []threshold{{0, "green"}, {warning, "yellow"}, {critical, "red"}}
}

// falling returns red, then yellow and green from these values on.
func falling(critical, warning float64) []threshold {
	return []threshold{{0, "red"}, {critical, "yellow"}, {warning, "green"}}
}

// zeroIsFine returns green for 0 and red above.
func zeroIsFine() []threshold { return []threshold{{0, "green"}, {1, "red"}} }

func thresholds(levels []threshold) *dashboard.ThresholdsConfigBuilder {
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps(levels))
}

func steps(levels []threshold) []dashboard.Threshold {
	if len(levels) == 0 {
		levels = []threshold{{0, "green"}}
	}
	all := []dashboard.Threshold{{Color: levels[0].colour}}
	for _, l := range levels[1:] {
		all = append(all, dashboard.Threshold{Value: cog.ToPtr(l.from), Color: l.colour})
	}
	return all
}

// selectHosts replaces HOSTS by a selector of the chosen hosts.
func selectHosts(expr string) string {
	return strings.ReplaceAll(expr, "HOSTS", `job=~"$job", instance=~"$instance"`)
}

// highestBy limits expr to the hosts with the highest ranking at the end of the time range.
// topk alone would choose other hosts for each point.
func highestBy(expr, ranking string) string {
	return fmt.Sprintf("%s and on (job, instance) topk($top, max by (job, instance) (%s))", expr, atEnd(ranking))
}

// lowestBy limits expr to the hosts with the lowest ranking.
func lowestBy(expr, ranking string) string {
	return fmt.Sprintf("%s and on (job, instance) bottomk($top, min by (job, instance) (%s))", expr, atEnd(ranking))
}

func atEnd(expr string) string { return strings.ReplaceAll(expr, "[$__range]", "[$__range] @ end()") }

// highest returns a gauge of the hosts where it was highest in the time range.
func highest(gauge string) query {
	return query{highestBy(gauge, "max_over_time("+gauge+"[$__range])"), "{{instance}}"}
}

// lowest returns a gauge of the hosts where it was lowest in the time range.
func lowest(gauge string) query {
	return query{lowestBy(gauge, "min_over_time("+gauge+"[$__range])"), "{{instance}}"}
}

// fastest returns the rate of a counter on the hosts where it rose most.
func fastest(counter string) query {
	rose := func(function, interval string) string {
		return fmt.Sprintf("sum by (job, instance) (%s(%s[%s]))", function, counter, interval)
	}
	return query{highestBy(rose("rate", "$__rate_interval"), rose("increase", "$__range")), "{{instance}}"}
}

// quantile returns a quantile of a histogram over all hosts.
func quantile(q float64, histogram string) query {
	return query{fmt.Sprintf("histogram_quantile(%g, sum by (le) (rate(%s[$__rate_interval])))", q, histogram), fmt.Sprintf("p%g", 100*q)}
}

// slowest returns a quantile of a histogram on the hosts where it was highest.
func slowest(q float64, histogram string) query {
	of := func(interval string) string {
		return fmt.Sprintf("histogram_quantile(%g, sum by (job, instance, le) (rate(%s[%s])))", q, histogram, interval)
	}
	return query{highestBy(of("$__rate_interval"), of("$__range")), "{{instance}}"}
}

func target(q query) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(selectHosts(q.expr)).LegendFormat(q.legend)
}

func refID(i int) string { return string(rune('A' + i)) }

// timeSeries returns a panel of values over time.
func timeSeries(o panelOptions, queries ...query) panel {
	return panel{cmp.Or(o.width, 8), 8, func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
		p := timeseries.NewPanelBuilder().Id(id).Title(o.title).Description(o.help).Unit(o.unit).GridPos(at).Datasource(datasource()).
			Min(0).LineWidth(1).FillOpacity(8).ShowPoints(common.VisibilityModeAuto).Thresholds(thresholds(o.levels)).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
				Placement(common.LegendPlacementBottom).Calcs([]string{"lastNotNull", "max"})).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
		if len(o.levels) > 0 {
			p = p.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
		}
		if o.max > 0 {
			p = p.Max(o.max)
		}
		for i, q := range queries {
			p = p.WithTarget(target(q).RefId(refID(i)).Range())
		}
		return p
	}}
}

// singleValue returns a panel of one current value.
func singleValue(o panelOptions, q query) panel {
	return panel{cmp.Or(o.width, 4), 4, func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
		return stat.NewPanelBuilder().Id(id).Title(o.title).Description(o.help).Unit(o.unit).GridPos(at).Datasource(datasource()).
			Thresholds(thresholds(o.levels)).ColorMode(common.BigValueColorModeValue).GraphMode(common.BigValueGraphModeNone).Orientation(common.VizOrientationAuto).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
			WithTarget(target(q).RefId("A").Instant())
	}}
}

// column is a query of a table, and the format of its values.
type column struct {
	name, expr, unit string
	levels           []threshold
}

// tablePanel returns a table with a row for each host, or for other labels in by. It is
// sorted by its first column, highest values first.
func tablePanel(o panelOptions, by []string, columns ...column) panel {
	return panel{cmp.Or(o.width, gridWidth), 9, func(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
		p := table.NewPanelBuilder().Id(id).Title(o.title).Description(o.help).GridPos(at).Datasource(datasource()).
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
