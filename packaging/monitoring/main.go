// Command monitoring writes the Grafana dashboard of collectord, which is made from this
// code, to standard output:
//
//	go run . >dashboard.json
//
// The alert rules beside it are written by hand: collectord.rules.yml.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	text, err := dashboardJSON()
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// dashboardJSON returns the dashboard as Grafana imports it. Equal code gives equal bytes.
func dashboardJSON() ([]byte, error) {
	d, err := newDashboard().Build()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var plain any // with sorted keys, and without the escapes that the library adds to expressions
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err = e.Encode(plain)
	return b.Bytes(), err
}
