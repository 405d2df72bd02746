package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile reads the settings in the file. It walks the YAML nodes, because they have the
// exact spelling, line and text. It returns nil if the file can't be read.
func (l *loader) readFile() map[string]any {
	settings := map[string]any{}
	l.path = l.source.Path
	if l.path == "" {
		l.path = DefaultPath
	}
	if err := checkFile(l.path); err != nil {
		l.fileMistake("", 0, err.Error())
		return nil
	}
	content, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) && l.source.Path == "" {
		return settings
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		l.fileMistake("", 0, "can't be read: "+err.Error())
		return nil
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(content))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return settings // the file is empty
	} else if err != nil {
		reason := strings.TrimPrefix(err.Error(), "yaml: ")
		if strings.HasPrefix(reason, "unknown anchor") {
			reason = noAnchors
		}
		if line := tabbedLine(content); line > 0 && (strings.Contains(reason, "tab character") || strings.Contains(reason, "cannot start any token")) {
			reason = fmt.Sprintf("line %d is indented with a tab: YAML needs blanks", line)
		}
		l.fileMistake("", 0, reason)
		return nil
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.fileMistake("", 0, "contains more than one document")
	}
	if root := doc.Content[0]; !isNull(root) {
		l.walk("", root, settings)
	}
	return settings
}

// tabbedLine returns the number of the first line that is indented with a tab, or 0.
func tabbedLine(content []byte) int {
	number := 0
	for line := range bytes.Lines(content) {
		number++
		if indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]; bytes.ContainsRune(indent, '\t') {
			return number
		}
	}
	return 0
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (l *loader) fileMistake(key string, line int, reason string) {
	origin := l.path
	if line > 0 {
		origin = fmt.Sprintf("%s line %d", l.path, line)
	}
	if key == "" {
		key = "configuration"
	}
	l.mistakes = append(l.mistakes, Mistake{key, origin, reason})
}

// walk adds the settings below node, a section, to settings as nested maps.
func (l *loader) walk(section string, node *yaml.Node, settings map[string]any) {
	if l.isAnchored(section, node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		reason := "is a section: its keys belong below it, indented"
		if section == "" {
			reason = "contains no keys: write a line of the form key: value for each key, such as data_dir: /var/lib/collectord"
		}
		l.fileMistake(section, node.Line, reason)
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := strings.TrimPrefix(section+"."+name.Value, ".")
		if name.Value == "<<" {
			l.fileMistake(section, name.Line, noAnchors)
			continue
		}
		if name.Kind != yaml.ScalarNode || strings.Contains(name.Value, ".") {
			l.fileMistake(key, name.Line, "is not a key: a key is a plain word below its section")
			continue
		}
		k, isKey := findKey(key)
		isSection := slices.ContainsFunc(keys, func(k Key) bool { return strings.HasPrefix(k.Name, key+".") })
		if _, twice := settings[name.Value]; twice {
			l.fileMistake(key, name.Line, "is set twice")
			continue
		}
		switch {
		case isSection && isNull(value): // all of its keys are commented out
		case isSection:
			below := map[string]any{}
			l.walk(key, value, below)
			settings[name.Value] = below
		case isKey:
			if text, ok := l.text(k, value); ok {
				settings[name.Value] = text
				l.origin[key] = fmt.Sprintf("%s line %d", l.path, value.Line)
			}
		default:
			l.fileMistake(key, name.Line, "is not a key; "+insteadOf(key))
		}
	}
}

// insteadOf returns what to write in the place of an unknown key: for names that other programs
// use, what does the same; else the nearest key.
func insteadOf(key string) string {
	name := strings.NewReplacer("-", "_", "aws_", "", "s3_", "").Replace(strings.ToLower(key[strings.LastIndexByte(key, '.')+1:]))
	switch name {
	case "accesskey", "access_key", "access_key_id", "secretkey", "secret_key", "secret_access_key", "session_token", "credentials", "password":
		return "keys are not written here, but in the file that shipper.s3.credentials_file names"
	case "bucket", "prefix", "folder":
		return "bucket and prefix, or a folder, belong in shipper.destination: s3://bucket/prefix or file:///path"
	case "token", "tokens", "api_key", "auth":
		return "clients and their tokens are in the file that http.tokens_file names"
	case "port", "host", "address", "bind", "addr":
		return "an address and its port belong in http.listen, udp.listen and admin.listen: host:port"
	}
	return "the nearest is " + nearest(strings.ToLower(key), keysAndSections)
}

const noAnchors = "YAML anchors, aliases and merge keys (&a, *a, <<) are not supported: write out what they stand for"

// isAnchored reports whether a node has an anchor or is an alias. It records that as a
// mistake.
func (l *loader) isAnchored(key string, n *yaml.Node) bool {
	if n.Anchor == "" && n.Kind != yaml.AliasNode {
		return false
	}
	l.fileMistake(key, n.Line, noAnchors)
	return true
}

// text returns a scalar as it is written, or the scalars of a list joined by commas.
func (l *loader) text(k Key, n *yaml.Node) (string, bool) {
	switch {
	case l.isAnchored(k.Name, n):
	case n.Style&yaml.TaggedStyle != 0:
		l.fileMistake(k.Name, n.Line, "has a YAML tag: write the value as it is")
	case isNull(n):
		l.fileMistake(k.Name, n.Line, "has no value: remove it, or write \"\"")
	case n.Kind == yaml.ScalarNode:
		return n.Value, true
	case n.Kind == yaml.SequenceNode && k.value.list:
		var parts []string
		for _, item := range n.Content {
			if l.isAnchored(k.Name, item) {
				return "", false
			}
			if item.Kind != yaml.ScalarNode || isNull(item) || item.Style&yaml.TaggedStyle != 0 {
				l.fileMistake(k.Name, item.Line, "contains something other than text")
				return "", false
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), true
	case k.value.list:
		l.fileMistake(k.Name, n.Line, "takes one value, or a list")
	default:
		l.fileMistake(k.Name, n.Line, "takes one value")
	}
	return "", false
}
