package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// bom is the used part of a CycloneDX 1.6 software bill of materials.
type bom struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	SerialNumber string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp,omitempty"`
	Component component `json:"component"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Licences   []licence  `json:"licenses"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type licence struct {
	Expression string `json:"expression"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// writeSBOM writes the modules that are linked into a binary of a version, according to
// the build information in the binary.
func writeSBOM(w io.Writer, binary, version string) error {
	if binary == "" || version == "" {
		return errors.New("usage: release sbom BINARY VERSION")
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(binary) //nolint:gosec // the caller chooses the file
	if err != nil {
		return err
	}
	known, err := linkedModules(".")
	if err != nil {
		return err
	}
	at := ""
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		at = time.Unix(s, 0).UTC().Format(time.RFC3339)
	}
	out, err := sbomOf(info, sha256.Sum256(b), version, at, known)
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

// sbomOf returns the bill of materials. known contains the licences.
func sbomOf(info *debug.BuildInfo, sum [sha256.Size]byte, version, at string, known []module) (b bom, err error) {
	b = bom{Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1, SerialNumber: serial(sum)}
	application := component{
		Ref: "pkg:generic/collectord@" + version, Type: "application", Name: "collectord", Version: version,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}, Licences: []licence{{"Apache-2.0"}}, PURL: "pkg:generic/collectord@" + version,
	}
	for _, s := range info.Settings {
		if s.Key == "GOOS" || s.Key == "GOARCH" {
			application.Properties = append(application.Properties, property{"collectord:" + strings.ToLower(s.Key), s.Value})
		}
	}
	b.Metadata = metadata{at, application}
	dependencies := dependency{Ref: application.Ref}
	modules := append([]*debug.Module{{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...)
	for _, d := range modules {
		if d.Replace != nil {
			d = d.Replace
		}
		c := component{Type: "library", Name: d.Path, Version: d.Version, PURL: "pkg:golang/" + d.Path + "@" + d.Version}
		c.Ref = c.PURL
		for _, m := range known {
			if m.path == d.Path {
				c.Licences = []licence{{m.licence}}
			}
		}
		if c.Licences == nil {
			return b, fmt.Errorf("the licence of %s is not known", d.Path)
		}
		b.Components = append(b.Components, c)
		dependencies.DependsOn = append(dependencies.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{dependencies}
	return b, nil
}

// serial returns the serial number of a bill: a UUIDv8 (RFC 9562) derived from the
// binary's checksum.
func serial(sum [sha256.Size]byte) string {
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
