package usage

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestNamesAreComparedRegardlessOfEscapes compares with the reference, on nested objects
// with few or many names, some equal and some escaped. One splitter reads all of them, so
// that state left by an invalid text would be noticed.
func TestNamesAreComparedRegardlessOfEscapes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const maxRecord = 300
	var s Splitter
	good := 0
	for range 4000 {
		text := randomObject(random, 1+random.IntN(40), random.IntN(3))
		want := referenceDatagram([]byte(text), maxRecord)
		s.Reset([]byte(text), Datagram, Limits{MaxUsageBytes: maxRecord})
		for _, v := range want {
			if !s.Next() {
				t.Fatalf("%s: %+v is missing", text, v)
			}
			compareValue(t, []byte(text), s.Value, v)
			if v.code == "" {
				good++
			}
		}
		if s.Next() {
			t.Fatalf("%s: unexpected value %+v", text, s.Value)
		}
	}
	if good < 400 || good > 3000 {
		t.Errorf("%d of 4000 objects are valid, want 400 to 3000: the test proves little", good)
	}
}

// randomObject returns an object with this many members, and nested objects down to this
// many levels.
func randomObject(random *rand.Rand, members, levels int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range members {
		if i > 0 {
			b.WriteByte(',')
		}
		name := fmt.Sprint(i)
		if random.IntN(40) == 0 {
			name = fmt.Sprint(random.IntN(members)) // most likely a duplicate
		}
		name += []string{"", "é", "😀", "\"", "a/b"}[random.IntN(2)*random.IntN(5)]
		b.WriteByte('"')
		for _, r := range name {
			b.WriteString(randomlyEscaped(random, r))
		}
		b.WriteString(`":`)
		if levels > 0 && random.IntN(8) == 0 {
			b.WriteString(randomObject(random, 1+random.IntN(40), levels-1))
		} else {
			b.WriteString("\n1"[random.IntN(2):])
		}
	}
	b.WriteByte('}')
	return b.String()
}

func randomlyEscaped(random *rand.Rand, r rune) string {
	switch {
	case random.IntN(6) > 0 && r != '"':
		return string(r)
	case r == '"' || r == '/' && random.IntN(2) == 0:
		return `\` + string(r)
	case r > 0xffff:
		r -= 0x10000
		return fmt.Sprintf(`\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

func TestNamesWithEqualHashesAreDistinguished(t *testing.T) {
	text := []byte(`"a" "b" `)
	set := &nameSet{seed: maphash.MakeSeed()}
	set.add(text, 1, 2, 0)
	hash := set.hash(text[5:6])
	set.names[0].hash = hash
	clear(set.slots)
	set.slots[set.slot(hash)] = 1
	if !set.add(text, 5, 6, 0) || set.add(text, 5, 6, 0) {
		t.Error("b equals a, or a second b was not noticed")
	}
}
