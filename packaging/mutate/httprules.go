package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	// begins are calls that begin a state of a connection, and ends what acts on its time.
	begins = []string{"enter", "enterUntil", "carryOn"}
	ends   = []string{"SetDeadline", "SetReadDeadline", "SetWriteDeadline", "expire", "end"}
	// replaced are calls that replace state, or give back what a request took.
	replaced = []string{"begin", "forget", "settle", "release", "giveBack", "give", "putBack", "know", "Store", "CompareAndSwap"}
	// owners are the variables whose fields are state: of http1 and of httpserver.
	owners = []string{"c", "q", "r", "h", "l"}
	// driven are the files of httpserver that move a connection from state to state.
	driven = []string{"authorize.go", "body.go", "conn.go", "drive.go", "exchange.go", "handshakes.go", "header.go"}
	// beside are functions there that are about memory, codings or what is logged.
	beside = []string{"decode", "decodeGzip", "decodeZstd", "distrust", "fill", "grow", "large", "putBack", "reserve", "roomFor", "handshakeFailure", "startTLS", "unreserve"}
)

// visitHTTP plants what there is to be taken out of a node of packages http1 and
// httpserver: kinds check, reset and deadline.
func (p *planter) visitHTTP(n ast.Node) bool {
	if p.pkg == "httpserver" && (!slices.Contains(driven, filepath.Base(p.path)) || slices.Contains(beside, strings.TrimPrefix(p.in, p.within))) {
		return false
	}
	switch n := n.(type) {
	case *ast.IfStmt:
		p.never(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, c := range n.Body.List {
				for _, cond := range c.(*ast.CaseClause).List {
					p.never(cond)
				}
			}
		}
	case *ast.ReturnStmt:
		if len(n.Results) == 1 {
			if b, ok := n.Results[0].(*ast.BinaryExpr); ok && b.Op.Precedence() == token.EQL.Precedence() {
				p.always(b)
			}
		}
	case *ast.BinaryExpr:
		for _, operand := range []ast.Expr{n.X, n.Y} {
			switch b, _ := ast.Unparen(operand).(*ast.BinaryExpr); {
			case n.Op != token.LOR && n.Op != token.LAND, b != nil && (b.Op == token.LOR || b.Op == token.LAND):
			case n.Op == token.LOR:
				p.never(operand)
			default:
				p.always(operand)
			}
		}
	case *ast.AssignStmt:
		p.assignment(n)
	case *ast.ExprStmt:
		if call, ok := n.X.(*ast.CallExpr); ok {
			p.statement(n, call)
		}
	case *ast.CallExpr:
		for _, arg := range n.Args {
			if s, ok := arg.(*ast.SliceExpr); ok && s.High != nil && p.text(s.High) == "0" {
				p.kept(p.text(s), p.text(s.X), s)
			}
		}
	case *ast.DeferStmt, *ast.GoStmt:
		return false
	}
	return true
}

// never plants a condition that is never true: one of several that lead to the same is
// left to its elements.
func (p *planter) never(cond ast.Expr) {
	if b, ok := ast.Unparen(cond).(*ast.BinaryExpr); !ok || b.Op != token.LOR {
		p.add("check", p.text(cond), p.around(cond, "((", ") && !isMutant($N))"))
	}
}

// always plants a condition that is always true.
func (p *planter) always(cond ast.Expr) {
	p.add("check", "always "+p.text(cond), p.around(cond, "((", ") || isMutant($N))"))
}

func (p *planter) around(n ast.Node, before, after string) edit {
	return edit{from: p.at(n.Pos()), to: p.at(n.End()), before: before, after: after}
}

// kept plants a value that stays what it was.
func (p *planter) kept(what, old string, replacement ast.Expr) {
	p.add("reset", what, p.around(replacement, "unlessMutantThen($N, "+old+", ", ")"))
}

func (p *planter) assignment(n *ast.AssignStmt) {
	if n.Tok != token.ASSIGN || len(n.Lhs) != len(n.Rhs) {
		return
	}
	for i, to := range n.Lhs {
		switch to := to.(type) {
		case *ast.StarExpr: // all of it at once
			of := p.text(to.X)
			if of != p.receiver {
				continue
			}
			e := p.around(n, fmt.Sprintf("{ before := *%s; ", of), "")
			e.n = p.next
			for _, field := range p.fields(p.receives, "") {
				m := p.number("reset", "replace "+of+"."+field)
				e.after += fmt.Sprintf("; if isMutant(%d) { %s.%s = before.%s }", m, of, field, field)
			}
			e.after += " }"
			p.edits = append(p.edits, e)
		case *ast.SelectorExpr:
			if owner, _, _ := strings.Cut(p.text(to), "."); slices.Contains(owners, owner) {
				p.kept(p.text(to)+" = "+p.text(n.Rhs[i]), p.text(to), n.Rhs[i])
			}
		case *ast.Ident:
			call, ok := n.Rhs[i].(*ast.CallExpr)
			switch {
			case p.in == "httpserver.enter" && strings.HasPrefix(p.text(n.Rhs[i]), "limits."), p.in == "httpserver.enter" && p.text(n.Rhs[i]) == "lingerTime":
				p.add("deadline", "no "+p.text(n.Rhs[i]), p.around(n.Rhs[i], "unlessMutantThen($N, 1<<62, ", ")"))
			case ok && to.Name == "_" && len(n.Lhs) == 1:
				p.statement(n, call)
			}
		}
	}
}

// statement plants a call that is left out, and a state that begins in the time of
// another one.
func (p *planter) statement(s ast.Stmt, call *ast.CallExpr) {
	unless := p.around(s, "if !isMutant($N) { ", " }")
	is, text := name(call), p.text(call)
	switch {
	case slices.Contains(ends, is):
		p.add("deadline", text, unless)
	case slices.Contains(begins, is) && p.pkg == "httpserver" && len(call.Args) > 0:
		p.add("deadline", text, unless)
		c, arg := p.text(call.Fun.(*ast.SelectorExpr).X), p.text(call.Args[0])
		with := map[bool]string{true: "enter", false: "carryOn"}[is == "carryOn"]
		p.add("deadline", fmt.Sprintf("%s by %s", text, with), p.around(s, fmt.Sprintf("if isMutant($N) { %s.%s(%s) } else { ", c, with, arg), " }"))
	case slices.Contains(replaced, is):
		p.add("reset", text, unless)
	}
}

// fields are those of a struct type of the package, and those of its fields.
func (p *planter) fields(of, within string) (all []string) {
	for _, f := range p.structs[of] {
		if inner := p.fields(f[1], within+f[0]+"."); inner != nil {
			all = append(all, inner...)
		} else {
			all = append(all, within+f[0])
		}
	}
	return all
}

var failedOf = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)|^(panic: .*|fatal error: .*|SIG\w+: .*)$`)

// quick are tests that are over within a second, in the order of which some notice most.
var quick = []string{
	"AConnectionStops|EndsWith|AnAnswerThat|WhereBytes|WithoutMemory|WithoutAMapping|SetOnce|LeavesToTheNext|CantBeTold|MakesAClient|ToContinue|HowLong|AHandshake|APolicy|AReleased|EachField|Preferences|IsJudgedBy|HasItsLimit|NoMoreTime|TakesLeave",
	"Deadline|Framing|TheOneBefore|Neighbour|ProxyCouldSee|JudgedAsSuch",
}

// tryHTTP runs the tests of a mutant's package: the quick ones first, of which none waits
// for what never comes for long.
func (b *binaries) tryHTTP(m mutant, limit time.Duration) (o outcome) {
	for i, tests := range slices.Concat(quick, []string{"."}) {
		timeout := "-test.timeout=1m"
		if i == len(quick) {
			timeout = "-test.timeout=3m"
		}
		out, spent, err := b.run(filepath.Base(m.dir)+".test", m, limit, "-test.failfast", timeout, "-test.run="+tests)
		o.took += spent
		if err != nil {
			return outcome{true, failedTest(out), o.took}
		}
	}
	o.by = b.reached(m)
	return o
}

func failedTest(out string) string {
	if m := failedOf.FindStringSubmatch(out); m != nil {
		return m[1] + m[2]
	}
	return "no reason"
}
