// Package config turns a file, the environment and flags into one validated
// Config: flag over environment over file over default.
//
// It owns the table of keys (keys.go), from which everything else follows: the
// defaults, the variables, the flags, the example file and the checks. It does
// not know what a value is used for beyond its own type and range; main maps it
// to the options of the packages.
//
// Invariants:
//
//   - Strict: an unknown key, a wrong unit or an impossible combination is an
//     error that names the key and where it was set, and all are told at once.
//   - Every key has exactly one variable, and no two keys share one.
package config
