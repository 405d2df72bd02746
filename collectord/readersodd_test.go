//go:build torture

package main

import "strings"

// oddUsage has valid usages that readers may change or lose.
type oddUsage struct {
	name string
	sent []string
}

// oddUsages mostly use the name "odd", so that its type differs from usage to usage.
var oddUsages = []oddUsage{
	{"empty object", []string{`{}`}},
	{"null, empty array, empty object", []string{`{"odd":null,"a":[],"o":{}}`}},
	{"white space between tokens", []string{`{ "odd" :	[ 1 , 2 ] }`}},
	{"escapes", []string{`{"odd":"\/ \u00e9 \u0041 \b\f\n\r\t \"\\"}`}},
	{"NUL in a value", []string{`{"odd":"a\u0000b"}`}},
	{"NUL in a name", []string{`{"odd\u0000":1}`}},
	{"beyond the basic plane", []string{`{"odd":"😀","\ud83d\ude00":1}`}},
	{"1 MB of text", []string{`{"odd":"` + strings.Repeat(`0123456789abcd\n`, 65000) + `"}`}},
	{"text like a date or number", []string{`{"odd":"2026-11-23T08:00:00Z","day":"2026-11-23","n":"007"}`}},
	{"2^64-1", []string{`{"odd":18446744073709551615}`}},
	{"-2^63", []string{`{"odd":-9223372036854775808}`}},
	{"2^53+1", []string{`{"odd":9007199254740993}`}},
	{"-0", []string{`{"odd":-0}`}},
	{"1E+2", []string{`{"odd":1E+2}`}},
	{"1.0 and 1", []string{`{"odd":1.0,"one":1,"cents":1.10}`}},
	{"40 digits", []string{`{"odd":0.1234567890123456789012345678901234567891}`}},
	{"1e308", []string{`{"odd":1e308,"least":5e-324}`}},
	{"names that differ in case", []string{`{"odd":1,"Odd":2,"ODD":3}`}},
	{"a name at several depths", []string{`{"odd":1,"a":{"odd":2,"a":{"odd":3}}}`}},
	{"names of columns", []string{`{"id":1,"usage":{"usage":2},"received_at":3,"dt":4}`}},
	{"names with dots, spaces, none", []string{`{"odd.a":1,"odd a":2,"":3,"$":4,"é":5}`}},
	{"mixed types", []string{`{"odd":1}`, `{"odd":"1"}`, `{"odd":[1,"1",null,{"a":1}]}`, `{"odd":{"a":1}}`, `{"odd":true}`, `{"odd":1.5}`}},
	{"64 levels", []string{`{"odd":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, strings.Repeat(`{"odd":`, 63) + `{}` + strings.Repeat("}", 63)}},
}
