// Package config turns a file, the environment and flags into one validated
// Config: flag over environment over file over default.
//
// Load is for commands, of which some need only a few keys (Source.Uses); Read returns
// a Draft with mistakes and all, to which main adds what it finds wrong on the host.
//
// It owns the table of keys (keys.go), from which everything else follows: the
// defaults, the variables, the flags, the checks, the example file, the manual
// page, and which keys a reload can change. It does not know what a value is
// used for beyond its own kind and range; main maps it to the options of the
// packages.
//
// Invariants:
//
//   - Strict: an unknown key, a wrong unit or an impossible combination is an
//     error that names the key and where it was set, and all are told at once.
//     What a file sets is in effect, or an error; never silently a default.
//   - Every key has exactly one variable, and no two keys share one.
//   - A value means what its text says, by the table of keys.
//
// Merging the sources is left to viper, which is fed in a way of its own:
//
//   - The file does not go through viper's reader. That lower-cases keys, so
//     that Sync would pass for sync; knows no lines to name in an error; and
//     hands over what YAML takes a value for: 1e3 would be the number 1000, and
//     0x10 would be 16. Here the YAML nodes are walked and viper is given their
//     text.
//   - Each key is bound to its variable by BindEnv. With AutomaticEnv a variable
//     that is named like a section, COLLECTORD_HTTP=x, would wipe all of it.
//   - A variable that is set and empty counts as set (AllowEmptyEnv): whoever
//     wrote it meant something, and the checks say so if it is nothing valid.
package config
