// Command release builds the published files of a version: packages, static binaries, a
// software bill of materials for each binary, the changelog's section, and checksums.
//
//	release build VERSION DIRECTORY   all published files, from a commit with the version's tag
//	release check VERSION             only the preconditions of build
//	release sbom BINARY VERSION       the modules linked into a binary, as CycloneDX JSON
//	release copyright                 the licences of linked modules, as Debian's copyright file
//
// Builds are reproducible: the same commit gives the same bytes.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, args []string) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch arg(0) {
	case "build":
		return build(arg(1), arg(2))
	case "check":
		_, err := check(".", arg(1))
		return err
	case "sbom":
		return writeSBOM(w, arg(1), arg(2))
	case "copyright":
		return writeCopyright(w)
	}
	return errors.New("usage: release build VERSION DIRECTORY | check VERSION | sbom BINARY VERSION | copyright")
}
