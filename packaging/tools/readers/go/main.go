// Command readers prints the lines of objects as a Go library decodes them:
//
//	readers klauspost|datadog FILE...
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	datadog "github.com/DataDog/zstd"
	klauspost "github.com/klauspost/compress/zstd"
)

func main() {
	library := os.Args[1]
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if strings.Contains(strings.ToLower(module.Path), library) {
			fmt.Println(module.Version)
		}
	}
	for _, name := range os.Args[2:] {
		if err := read(library, name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func read(library, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if library == "datadog" {
		lines := datadog.NewReader(file)
		defer lines.Close()
		_, err = io.Copy(os.Stdout, lines)
		return err
	}
	lines, err := klauspost.NewReader(file)
	if err != nil {
		return err
	}
	defer lines.Close()
	_, err = io.Copy(os.Stdout, lines)
	return err
}
