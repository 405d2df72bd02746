//go:build torture

package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// checkVerdict compares the page's heading, title and texts.
func (b *browser) checkVerdict(verdict string, wants []string) {
	b.t.Helper()
	var title, heading, text string
	b.eval("document.title", &title)
	b.eval("document.querySelector('h1').innerText", &heading)
	b.eval("document.body.innerText.replace(/\\s+/g, ' ')", &text)
	if !regexp.MustCompile("^("+verdict+")$").MatchString(heading) || !strings.HasPrefix(title, heading+" – edge-1") {
		b.t.Errorf("the verdict is %q and the title %q, want %s: %s", heading, title, verdict, text)
	}
	for _, want := range wants {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			b.t.Errorf("the page lacks %q: %s", want, text)
		}
	}
}

// checkNoErrors asserts that no error of any kind occurred, and that nothing but the page was
// requested.
func (b *browser) checkNoErrors(url string) {
	b.t.Helper()
	for _, kind := range []string{"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed", "Audits.issueAdded"} {
		for _, entry := range b.eventsOf(kind) {
			b.t.Errorf("%s: %s", kind, entry)
		}
	}
	for _, params := range b.eventsOf("Network.requestWillBeSent") {
		var sent struct{ Request struct{ URL string } }
		if err := json.Unmarshal(params, &sent); err != nil || sent.Request.URL != url {
			b.t.Errorf("the page requests %s (%v)", sent.Request.URL, err)
		}
	}
	if n := len(b.eventsOf("Network.requestWillBeSent")); n == 0 {
		b.t.Error("no request was seen")
	}
}

// checkWidth asserts that no element is wider than the window or its box.
func (b *browser) checkWidth(width int) {
	b.t.Helper()
	var wide []string
	b.eval(`[...document.querySelectorAll("*")].filter(e => e.scrollWidth > Math.max(e.clientWidth, 1) + 1 && e.clientWidth > 0 && getComputedStyle(e).display != "inline"
		|| e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 100))`, &wide)
	if len(wide) > 0 {
		b.t.Errorf("at %d pixels these are too wide: %q", width, wide)
	}
	var inner, all int
	b.eval("innerWidth", &inner)
	b.eval("document.documentElement.scrollWidth", &all)
	if inner != width || all > width {
		b.t.Errorf("the page is %d pixels wide in a window of %d, want %d", all, inner, width)
	}
}

// contrasts finds texts and lines whose contrast with the background is below the minimum of
// WCAG 2.2, 1.4.3 and 1.4.11 (AA).
const contrasts = `(() => {
	const rgba = text => { const n = text.match(/[\d.]+/g).map(Number); return text.startsWith("color(") ? [n[0]*255, n[1]*255, n[2]*255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1] }
	const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3])).concat(1)
	const behind = e => { const all = []; for (; e; e = e.parentElement) all.unshift(rgba(getComputedStyle(e).backgroundColor)); return all.reduce((below, top) => over(top, below), [255, 255, 255, 1]) }
	const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b }
	const contrast = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + .05) / (Math.min(x, y) + .05) }
	const bad = []
	const check = (e, color, least) => { const below = behind(e), is = contrast(over(rgba(color), below), below); if (!(is >= least)) bad.push(is.toFixed(2) + ": " + e.outerHTML.slice(0, 100)) }
	for (const e of document.body.querySelectorAll("*")) {
		const style = getComputedStyle(e)
		if (e.matches(".line, .shape")) check(e, style.stroke, 3)
		else if (e.matches(".bars, .solid, .ink, .alarm")) check(e, style.fill, 3)
		else if (!e.closest("svg") && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) check(e, style.color, 4.5)
	}
	return bad
})()`

// checkContrast asserts enough contrast, and lines that differ by more than their colour.
func (b *browser) checkContrast() {
	b.t.Helper()
	var bad []string
	b.eval(contrasts, &bad)
	if len(bad) > 0 {
		b.t.Errorf("the contrast is too low: %q", bad)
	}
	var same int
	b.eval(`[...document.querySelectorAll(".canvas svg")].filter(s => { const d = [...s.querySelectorAll(".line")].map(l => getComputedStyle(l).strokeDasharray); return new Set(d).size < d.length }).length`, &same)
	if same > 0 {
		b.t.Errorf("in %d plots two lines differ by their colour alone", same)
	}
}

// checkAccessibility checks the accessibility tree for headings, landmarks, tables with
// headers, and a text for every picture.
func (b *browser) checkAccessibility(figures bool) {
	b.t.Helper()
	type value struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	roles := map[string]int{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, _ := n.Role.Value.(string)
		name, _ := n.Name.Value.(string)
		role = strings.ToLower(role)
		roles[role]++
		if slices.Contains([]string{"image", "img", "svgroot", "heading", "link", "columnheader", "rowheader", "region"}, role) && strings.TrimSpace(name) == "" {
			b.t.Errorf("a %s has no name", role)
		}
	}
	wanted := map[string]int{"heading": 1, "banner": 1, "main": 1, "contentinfo": 1, "navigation": 1, "region": 1}
	if figures {
		wanted = map[string]int{"heading": 11, "banner": 1, "main": 1, "contentinfo": 1, "navigation": 1, "region": 7, "table": 3, "columnheader": 6, "rowheader": 15, "image": 4}
	}
	for role, minCount := range wanted {
		if roles[role] < minCount {
			b.t.Errorf("the page has %d of %s, want at least %d: %v", roles[role], role, minCount, roles)
		}
	}
}
