// Package sbom validates the software bill of materials that packaging/release writes.
package sbom
