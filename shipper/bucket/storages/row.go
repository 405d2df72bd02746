package storages

import (
	"fmt"
	"strings"
)

// Row is what was found of a storage.
type Row struct {
	Name                               string
	Conforms                           string // to what shipper needs of any
	Kills                              string
	MD5, CRC32C, SHA256                string // wrong ones are refused
	IfNoneMatch, IfMatch               string
	Metadata, Encryption, StorageClass string
	Lists                              string
	AfterTwoSeconds, AfterThirtyFive   string // what a power cut takes
}

// columns are the titles of a row's cells.
func columns() []string {
	return []string{
		"storage", "kills lose", "MD5", "CRC-32C", "SHA-256", "`If-None-Match`", "`If-Match`",
		"metadata", "encrypts", "storage class", "lists", "gone after 2 s", "gone after 35 s",
	}
}

func (r *Row) cells() []*string {
	return []*string{
		&r.Name, &r.Kills, &r.MD5, &r.CRC32C, &r.SHA256, &r.IfNoneMatch, &r.IfMatch,
		&r.Metadata, &r.Encryption, &r.StorageClass, &r.Lists, &r.AfterTwoSeconds, &r.AfterThirtyFive,
	}
}

func (r Row) String() string {
	line := "|"
	for _, cell := range r.cells() {
		line += " " + *cell + " |"
	}
	return line
}

// Table is Markdown, with a row for each storage.
func Table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(columns(), " | ") + " |\n|" + strings.Repeat("---|", len(columns())) + "\n")
	for _, r := range rows {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

// ReadRow finds the row of a storage in a document.
func ReadRow(text, name string) (r Row, err error) {
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != len(columns()) || strings.TrimSpace(cells[0]) != name {
			continue
		}
		for i, cell := range r.cells() {
			*cell = strings.TrimSpace(cells[i])
		}
		return r, nil
	}
	return r, fmt.Errorf("there is no row of %s", name)
}
