package main

import (
	"bufio"
	"errors"
	"fmt"
	"html/template"
	"iter"
	"os"
	"path/filepath"
	"time"

	"collectord/shipper/audit"
)

// fleetPage is the data of the HTML page. Its texts are quoted as on a terminal.
type fleetPage struct {
	Verdict string
	Class   string // right, wrong or error; selects only the colour
	At      string
	Columns []string
	Hosts   iter.Seq[fleetRow] // a sequence, because there may be many hosts
	Notes   []string
	Sum     string
}

type fleetRow struct {
	Class   string
	Cells   []string
	Trouble []string
	Devices []string // the silent ones
}

// page returns the page of a fleet as of a time.
func (p *fleetReport) page(at time.Time) *fleetPage {
	v := &fleetPage{Verdict: quoted(p.verdict()), Class: "right", At: utcSecond(at), Columns: p.columns(), Sum: quoted(p.examined())}
	switch {
	case p.Count[audit.Failed] > 0:
		v.Class = "error"
	case p.Wrong():
		v.Class = "wrong"
	}
	for _, note := range p.notes() {
		v.Notes = append(v.Notes, quoted(note))
	}
	for _, a := range p.unused {
		v.Notes = append(v.Notes, quoted(fmt.Sprintf("ACCEPTS NOTHING  line %d of the accepted incidents (log %s): correct it, or remove it", a.Line, a.LogID)))
	}
	v.Hosts = func(yield func(fleetRow) bool) {
		for _, h := range p.Hosts {
			if !p.isHidden(h) && !yield(p.row(h)) {
				return
			}
		}
	}
	return v
}

func (p *fleetReport) row(h *audit.Host) fleetRow {
	row := fleetRow{Class: "right", Cells: p.cells(h)}
	if len(h.Wrong) > 0 {
		row.Class = "wrong"
	}
	for _, d := range h.SilentDevices {
		row.Devices = append(row.Devices, quoted(d.Name+" "+describeSilence(d)))
	}
	bare := *h
	bare.SilentDevices = nil
	row.Trouble = troubleTexts(&bare, 0)
	for _, texts := range [][]string{row.Cells, row.Trouble} {
		for i, text := range texts {
			texts[i] = quoted(text)
		}
	}
	return row
}

func errorPage(err error, at time.Time) *fleetPage {
	return &fleetPage{Verdict: quoted("ERROR, NO VERDICT: " + err.Error()), Class: "error", At: utcSecond(at)}
}

func utcSecond(at time.Time) string { return at.UTC().Format(time.DateTime) + " UTC" }

// writeFleetPage replaces the page atomically, so that a reader never sees part of one.
func writeFleetPage(path string, v *fleetPage) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	out := bufio.NewWriter(f)
	err = fleetTemplate.Execute(out, v)
	err = errors.Join(err, out.Flush(), f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

//nolint:gochecknoglobals // parsed once, never changed
var fleetTemplate = template.Must(template.New("fleet").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta http-equiv="refresh" content="60"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex"><title>{{.Verdict}}</title>
<style>
:root{color-scheme:light dark;--wrong:#a11200;--right:#0b6b2b;--line:#8886}
@media (prefers-color-scheme:dark){:root{--wrong:#ff9a8a;--right:#7ad89a}}
body{font:15px/1.45 system-ui,sans-serif;margin:1.5em auto;padding:0 1em;max-width:110em}
h1{font-size:1.3em;overflow-wrap:anywhere}.wrong>.state,h1.wrong,h1.error{color:var(--wrong)}.right>.state,h1.right{color:var(--right)}
.scroll{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.25em .9em .25em 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
td,th{white-space:nowrap}td.state{font-weight:bold}td.trouble{white-space:normal;min-width:16em;overflow-wrap:anywhere}ul{margin:0;padding-left:1.2em}
</style></head><body>
<h1 class="{{.Class}}">{{.Verdict}}</h1>
<p>As of {{.At}}. If that is long ago, this page is no longer written.</p>
{{if .Columns}}<div class="scroll"><table><thead><tr>{{range .Columns}}<th scope="col">{{.}}</th>{{end}}</tr></thead><tbody>
{{range .Hosts}}<tr class="{{.Class}}">{{range $i, $cell := .Cells}}<td{{if eq $i 0}} class="state"{{end}}>{{$cell}}</td>{{end}}<td class="trouble">
{{- range .Trouble}}<div>{{.}}</div>{{end}}{{if .Devices}}<details><summary>{{len .Devices}} silent</summary><ul>{{range .Devices}}<li>{{.}}</li>{{end}}</ul></details>{{end}}</td></tr>
{{end}}</tbody></table></div>{{end}}
{{range .Notes}}<p>{{.}}</p>
{{end}}<p>{{.Sum}}</p>
</body></html>
`))
