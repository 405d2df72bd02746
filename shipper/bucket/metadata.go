package bucket

import (
	"errors"
	"strconv"
	"strings"
)

// Format is the version of the layout of objects and loss notes.
const Format = 1

// formatHeader is the header with the format. The probe's object has it, too.
const formatHeader = "Collectord-Format"

// Metadata describes an object. S3 stores it as user metadata. A folder stores none, and
// some tools drop it when they copy: then the key provides format, ids, range and count,
// and the rest stays empty.
type Metadata struct {
	Format   int
	Node     string
	LogID    string
	Run      string
	FirstSeq uint64
	LastSeq  uint64
	Records  uint64
	RawBytes int64  // of the lines
	SHA256   string // of the lines, hex; empty: not known without reading them
	// ConfirmedBelow is a seq. When the object was sent, each record of the log with a
	// lower seq was in the storage, or noted there as lost; 0: not known.
	ConfirmedBelow uint64
}

// SameContent reports whether two objects have the same lines.
func (m Metadata) SameContent(o Metadata) bool {
	return m.SHA256 != "" && m.SHA256 == o.SHA256 && m.Records == o.Records
}

// Key returns the key of the object without the hour, which metadata does not contain.
func (m Metadata) Key() (k Key, ok bool) {
	if m.SHA256 == "" || m.FirstSeq < 1 || m.LastSeq < m.FirstSeq || m.LastSeq > maxSeq {
		return k, false
	}
	logID, err := strconv.ParseUint(m.LogID, 16, 64)
	run, runErr := strconv.ParseUint(m.Run, 16, 64)
	return Key{Node: m.Node, LogID: logID, Run: run, FirstSeq: m.FirstSeq, LastSeq: m.LastSeq}, errors.Join(err, runErr) == nil
}

// metadataFromKey returns the metadata that a key contains; empty if it is not the key of an
// object.
func metadataFromKey(key string) Metadata {
	k, ok := ParseKey(key)
	if !ok {
		return Metadata{}
	}
	return Metadata{
		Format: Format, Node: k.Node, LogID: HexID(k.LogID), Run: HexID(k.Run),
		FirstSeq: k.FirstSeq, LastSeq: k.LastSeq, Records: k.LastSeq - k.FirstSeq + 1,
	}
}

// toHeaders returns the metadata as user metadata of S3.
func (m Metadata) toHeaders() map[string]string {
	if m.Format == 0 {
		return map[string]string{}
	}
	return map[string]string{
		formatHeader:           strconv.Itoa(m.Format),
		"Collectord-Node":      m.Node,
		"Collectord-Log-Id":    m.LogID,
		"Collectord-Run":       m.Run,
		"Collectord-First-Seq": strconv.FormatUint(m.FirstSeq, 10),
		"Collectord-Last-Seq":  strconv.FormatUint(m.LastSeq, 10),
		"Collectord-Records":   strconv.FormatUint(m.Records, 10),
		"Collectord-Raw-Bytes": strconv.FormatInt(m.RawBytes, 10),
		"Collectord-Sha256":    m.SHA256,

		"Collectord-Confirmed-Below": strconv.FormatUint(m.ConfirmedBelow, 10),
	}
}

// fromHeaders is the reverse of toHeaders. It returns empty metadata if a required header
// is missing or wrong.
func fromHeaders(h map[string]string) (m Metadata) {
	var errs [5]error
	m.Format, errs[0] = strconv.Atoi(h[formatHeader])
	m.FirstSeq, errs[1] = strconv.ParseUint(h["Collectord-First-Seq"], 10, 64)
	m.LastSeq, errs[2] = strconv.ParseUint(h["Collectord-Last-Seq"], 10, 64)
	m.Records, errs[3] = strconv.ParseUint(h["Collectord-Records"], 10, 64)
	m.RawBytes, errs[4] = strconv.ParseInt(h["Collectord-Raw-Bytes"], 10, 64)
	if errors.Join(errs[:]...) != nil || !hasValidText(h) {
		return Metadata{}
	}
	m.ConfirmedBelow, _ = strconv.ParseUint(h["Collectord-Confirmed-Below"], 10, 64)
	m.Node, m.LogID, m.Run, m.SHA256 = h["Collectord-Node"], h["Collectord-Log-Id"], h["Collectord-Run"], h["Collectord-Sha256"]
	return m
}

// maxNodeBytes limits the name of a node, which readers keep in memory. Names of collectord
// have at most 63 characters.
const maxNodeBytes = 255

// hasValidText reports whether the text headers have valid values.
func hasValidText(h map[string]string) bool {
	for name, maxLen := range map[string]int{"Collectord-Log-Id": 16, "Collectord-Run": 16, "Collectord-Sha256": 64} {
		if text := h[name]; text == "" || len(text) > maxLen || strings.Trim(text, "0123456789abcdef") != "" {
			return false
		}
	}
	return len(h["Collectord-Node"]) <= maxNodeBytes
}
