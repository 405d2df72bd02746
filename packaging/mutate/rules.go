package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// Names of calls that return only an error, by the effect of their omission.
var (
	syncs  = []string{"Sync", "Datasync", "SyncDir", "SyncFile", "sync"}
	losses = []string{
		"note", "noteMissing", "writeNote", "deleteReplacedNote", "quarantineDamaged", "quarantineBeyond", "quarantineBytes", "quarantineDir", "quarantinePath",
		"putAside", "deletePieces", "clearPiece", "deleteSalvageDir", "deleteLeftovers", "deleteRedundant", "deleteDir", "emptyTombstone", "makeTombstone",
		"trim", "Trim", "CutTo", "Truncate",
	}
	// shorter maps a call to the same call without its sync.
	shorter = map[string]string{"RenameDurably": "RenameNew"}
	// steps are calls whose order may matter.
	steps = slices.Concat(syncs, losses, []string{
		"renameOrUndo", "markGone", "link", "Rename", "RenameNew", "RenameDurably", "MkdirDurably", "WriteFileDurably", "Finish", "Link", "Remove", "RemoveIn", "RemoveDir",
	})
	// checked matches conditions that validate data that was read.
	checked = regexp.MustCompile(`(?i)crc|checksum|magic|errBad|logID|\brun\b|\.Run\b|firstSeq|payloadLen|version|castagnoli|wellFormed|len\(payload\)|length|maxEntry|maxSeq|withi?n\b|owner`)
)

// name returns the name of a called function or method, and "" for calls of packages
// strings and bytes.
func name(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok && (x.Name == "strings" || x.Name == "bytes") {
			return ""
		}
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// visitLog plants the mutants of a node of package wal.
func (p *planter) visitLog(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BlockStmt:
		p.swaps(n.List)
	case *ast.CaseClause:
		p.swaps(n.Body)
	case *ast.IfStmt:
		p.condition(n.Cond, leaves(n.Body.List))
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, c := range n.Body.List {
				for _, cond := range c.(*ast.CaseClause).List {
					p.condition(cond, true)
				}
			}
		}
	case *ast.CallExpr:
		p.call(n)
	case *ast.DeferStmt, *ast.GoStmt:
		return false // a deferred call can't be wrapped as an expression
	case *ast.ExprStmt:
		if call, ok := n.X.(*ast.CallExpr); ok && (slices.Contains(syncs, name(call)) || slices.Contains(losses, name(call))) {
			return false // its error is ignored
		}
	}
	return true
}

func (p *planter) call(c *ast.CallExpr) {
	whole := edit{from: p.at(c.Pos()), to: p.at(c.End()), before: "unlessMutant($N, func() error { return ", after: " })"}
	is := name(c)
	switch {
	case slices.Contains(syncs, is):
		p.add("sync", p.text(c), whole)
	case is == "Finish" && len(c.Args) == 2:
		f, err := p.text(c.Args[0]), p.text(c.Args[1])
		whole.before = fmt.Sprintf("eitherMutant($N, func() error { if err := %s.Close(); err != nil { return err }; return %s }, func() error { return ", f, err)
		p.add("sync", p.text(c), whole)
	case shorter[is] != "":
		f := c.Fun.(*ast.SelectorExpr)
		args := p.src[p.at(c.Lparen):p.at(c.End())]
		whole.before = fmt.Sprintf("eitherMutant($N, func() error { return %s.%s%s }, func() error { return ", p.text(f.X), shorter[is], args)
		p.add("sync", p.text(c), whole)
	case slices.Contains(losses, is):
		p.add("loss", p.text(c), whole)
	}
}

// condition plants a condition that is always false.
func (p *planter) condition(cond ast.Expr, leaves bool) {
	e := edit{from: p.at(cond.Pos()), to: p.at(cond.End()), before: "(", after: ") && !isMutant($N)"}
	switch text := p.text(cond); {
	case checked.MatchString(text):
		p.add("check", text, e)
	case leaves:
		p.add("guard", text, e)
	}
}

// leaves reports whether statements end with a return, break, continue or goto.
func leaves(list []ast.Stmt) bool {
	if len(list) == 0 {
		return false
	}
	switch last := list[len(list)-1].(type) {
	case *ast.ReturnStmt:
		return true
	case *ast.BranchStmt:
		return last.Tok != token.FALLTHROUGH
	}
	return false
}

// swaps plants the reversed order of two consecutive steps.
func (p *planter) swaps(list []ast.Stmt) {
	for i := range len(list) - 1 {
		a, b := list[i], list[i+1]
		one, other := step(a), step(b)
		if one == "" || other == "" {
			continue
		}
		s := [4]int{p.at(a.Pos()), p.at(a.End()), p.at(b.Pos()), p.at(b.End())}
		if slices.ContainsFunc(p.edits, func(e edit) bool { return e.swap != nil && e.from < s[3] && s[0] < e.to }) {
			continue // the step is already part of another swap
		}
		p.add("order", fmt.Sprintf("%s before %s", one, other), edit{from: s[0], to: s[3], swap: &s})
	}
}

// step returns the name of the call if the statement is a step: if err := call(); err !=
// nil {...} or if err = call(); err != nil {...}. Otherwise it returns "".
func step(s ast.Stmt) string {
	n, ok := s.(*ast.IfStmt)
	if !ok || n.Init == nil || n.Else != nil {
		return ""
	}
	assign, ok := n.Init.(*ast.AssignStmt)
	if !ok || len(assign.Rhs) != 1 || len(assign.Lhs) != 1 {
		return ""
	}
	call, ok := assign.Rhs[0].(*ast.CallExpr)
	if !ok || !slices.Contains(steps, name(call)) {
		return ""
	}
	return strings.TrimSpace(name(call))
}
