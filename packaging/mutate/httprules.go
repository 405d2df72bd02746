package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
)

var (
	// begins are calls that start a state of a connection; ends are calls that act on its
	// deadline.
	begins = []string{"enter", "enterUntil", "enterKeepingDeadline"}
	ends   = []string{"SetDeadline", "SetReadDeadline", "SetWriteDeadline", "setLoopDeadline", "AfterFunc", "Reset", "expire", "end"}
	// replaced are calls that replace state, or release resources of a request.
	replaced = []string{"begin", "dropSlices", "settle", "release", "releaseRequest", "releaseLargeBody", "releaseReservation", "recycleBuffer", "markClient", "Store", "CompareAndSwap"}
	// loopSteps are calls that advance an event loop, or update its accounts.
	loopSteps = []string{"post", "wake", "Wake", "resumeMemoryWaiters", "cutForMemory", "commit", "Commit", "clear", "reclaimBuffers", "attachWriteBuffer", "attachBodyBuffer", "reclaimBodyBuffer", "dequeue", "remove", "requeue", "push", "Add", "joinLoop", "discard"}
	// owners are the variables of http1 and httpserver whose fields are state.
	owners = []string{"b", "c", "h", "l", "class", "q", "r", "s", "w"}
	// loops are the files of the event loop.
	loops = []string{"epoll.go", "loop.go", "loopconn.go", "relief.go", "workers.go"}
	// loopTypes are types of httpserver whose methods belong to the event loop in any file, and
	// loopFuncs are functions that handle its queues of connections (connections.go).
	loopTypes = []string{"buffers", "loop", "queue"}
	loopFuncs = []string{"classOf", "dequeue", "oldestStranger", "requeue"}
	// driven are the files of httpserver that move a connection between states, or end it.
	driven = slices.Concat(loops, []string{"authorize.go", "body.go", "conn.go", "drive.go", "exchange.go", "groupmemory.go", "handshakes.go", "header.go"})
	// timed are functions in other files of httpserver that handle deadlines.
	timed = []string{"deadlinePassed", "setLoopDeadline", "joinLoop", "sweep", "sweepAll", "shutDown", "endIdleLocked", "cutStrangerLocked"}
	// skipped are functions of httpserver without mutants: they handle memory, codings or log
	// texts.
	skipped = []string{"decode", "decodeGzip", "decodeZstd", "certificateFailure", "appendFrom", "grow", "growLarge", "recycleBuffer", "reserve", "bufferBytes", "handshakeFailure", "startTLS", "releaseExcess"}
)

// visitHTTP plants the mutants of a node of packages http1, httpserver and epoll. Their
// kinds are check, reset, deadline and step.
func (p *planter) visitHTTP(n ast.Node) bool {
	in := strings.TrimPrefix(p.in, p.within)
	if listed := slices.Contains(driven, filepath.Base(p.path)) || p.isOfLoop() || slices.Contains(timed, in); p.pkg == "httpserver" && (!listed || slices.Contains(skipped, in)) {
		return false
	}
	switch n := n.(type) {
	case *ast.BlockStmt:
		p.counts(n.List)
	case *ast.CaseClause:
		p.counts(n.Body)
	case *ast.CommClause:
		p.counts(n.Body)
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

// isOfLoop reports whether the current function belongs to the event loop.
func (p *planter) isOfLoop() bool {
	return slices.Contains(loops, filepath.Base(p.path)) ||
		p.pkg == "httpserver" && (slices.Contains(loopTypes, p.receives) || slices.Contains(loopFuncs, strings.TrimPrefix(p.in, p.within)))
}

// counts plants mutants that skip the update of a counter in the state.
func (p *planter) counts(list []ast.Stmt) {
	for _, s := range list {
		var of ast.Expr
		switch s := s.(type) {
		case *ast.IncDecStmt:
			of = s.X
		case *ast.AssignStmt:
			if s.Tok != token.ASSIGN && s.Tok != token.DEFINE {
				of = s.Lhs[0]
			}
		}
		if of, ok := of.(*ast.SelectorExpr); ok && p.isOwned(of) {
			p.add("reset", p.text(s), p.around(s, "if !isMutant($N) { ", " }"))
		}
	}
}

// isOwned reports whether an expression belongs to a variable whose fields are state.
func (p *planter) isOwned(e ast.Expr) bool {
	owner, _, _ := strings.Cut(p.text(e), ".")
	return slices.Contains(owners, owner) || p.pkg == "epoll" && owner == p.receiver
}

// never plants a condition that is always false. It skips an || expression, whose operands
// get their own mutants.
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

// kept plants an assignment that keeps the old value.
func (p *planter) kept(source, old string, replacement ast.Expr) {
	p.add("reset", source, p.around(replacement, "unlessMutantThen($N, "+old+", ", ")"))
}

func (p *planter) assignment(n *ast.AssignStmt) {
	if n.Tok != token.ASSIGN || len(n.Lhs) != len(n.Rhs) {
		return
	}
	for i, to := range n.Lhs {
		switch to := to.(type) {
		case *ast.StarExpr: // replaces the whole struct
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
			if p.isOwned(to) {
				p.kept(p.text(to)+" = "+p.text(n.Rhs[i]), p.text(to), n.Rhs[i])
			}
		case *ast.IndexExpr:
			if _, ok := to.X.(*ast.SelectorExpr); ok && p.isOwned(to.X) {
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

// statement plants an omitted call. For a state change it also plants a mutant that keeps
// the previous deadline.
func (p *planter) statement(s ast.Stmt, call *ast.CallExpr) {
	unless := p.around(s, "if !isMutant($N) { ", " }")
	callee, text := name(call), p.text(call)
	switch {
	case slices.Contains(ends, callee):
		p.add("deadline", text, unless)
	case slices.Contains(begins, callee) && p.pkg == "httpserver" && len(call.Args) > 0:
		p.add("deadline", text, unless)
		c, arg := p.text(call.Fun.(*ast.SelectorExpr).X), p.text(call.Args[0])
		with := map[bool]string{true: "enter", false: "enterKeepingDeadline"}[callee == "enterKeepingDeadline"]
		p.add("deadline", fmt.Sprintf("%s by %s", text, with), p.around(s, fmt.Sprintf("if isMutant($N) { %s.%s(%s) } else { ", c, with, arg), " }"))
	case slices.Contains(replaced, callee):
		p.add("reset", text, unless)
	case p.isOfLoop() && slices.Contains(loopSteps, callee):
		p.add("step", text, unless)
	}
}

// fields returns the fields of a struct type of the package, including the fields of
// nested structs.
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
