package storages

import (
	"fmt"
	"strings"
)

// Row is the results for one storage.
type Row struct {
	Name                               string
	Kills                              string
	MD5, CRC32C, SHA256                string // wrong checksums are refused
	IfNoneMatch, IfMatch               string
	Metadata, Encryption, StorageClass string
	Lists                              string
	After2s, After35s, After2sWithHost Cut // power cut, so long after the last upload
}

// Cut is the loss in a power cut.
type Cut struct {
	Gone    string // immediately after the power cut
	Missing string // after the host has rechecked all records it still keeps
}

// table has a row for each storage.
type table struct {
	titles []string
	cells  func(*Row) []*string
}

func tables() []table {
	return []table{
		{
			[]string{
				"storage", "kills lose", "MD5", "CRC-32C", "SHA-256", "`If-None-Match`", "`If-Match`",
				"metadata", "encrypts", "storage class", "lists",
			},
			func(r *Row) []*string {
				return []*string{
					&r.Name, &r.Kills, &r.MD5, &r.CRC32C, &r.SHA256, &r.IfNoneMatch, &r.IfMatch,
					&r.Metadata, &r.Encryption, &r.StorageClass, &r.Lists,
				}
			},
		},
		{
			[]string{
				"power cut of", "2 s after: gone", "missing in the end", "35 s after: gone", "missing in the end",
				"2 s after, and the host killed: gone", "missing in the end",
			},
			func(r *Row) []*string {
				return []*string{
					&r.Name, &r.After2s.Gone, &r.After2s.Missing, &r.After35s.Gone, &r.After35s.Missing,
					&r.After2sWithHost.Gone, &r.After2sWithHost.Missing,
				}
			},
		},
	}
}

func (t table) line(r *Row) string {
	line := "|"
	for _, cell := range t.cells(r) {
		line += " " + *cell + " |"
	}
	return line + "\n"
}

func (r Row) String() (lines string) {
	for _, t := range tables() {
		lines += t.line(&r)
	}
	return lines
}

// Tables returns Markdown tables with a row for each storage.
func Tables(rows []Row) string {
	var texts []string
	for _, t := range tables() {
		text := "| " + strings.Join(t.titles, " | ") + " |\n|" + strings.Repeat("---|", len(t.titles)) + "\n"
		for _, r := range rows {
			text += t.line(&r)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "\n")
}

// ReadRow parses the rows of a storage in a Markdown document.
func ReadRow(text, name string) (r Row, err error) {
	for _, t := range tables() {
		found := false
		for line := range strings.Lines(text) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			if len(cells) != len(t.titles) || strings.TrimSpace(cells[0]) != name {
				continue
			}
			found = true
			for i, cell := range t.cells(&r) {
				*cell = strings.TrimSpace(cells[i])
			}
		}
		if !found {
			return r, fmt.Errorf("there is no row of %s with %q", name, t.titles)
		}
	}
	return r, nil
}
