// Package config merges a file, the environment and flags into one validated Config. A
// flag overrides the environment, the environment overrides the file, and the file
// overrides the default.
//
// Load is for commands; some of them need only a few keys (Source.Uses). Read returns a
// Draft that may contain mistakes; main adds the mistakes that it finds on the host.
//
// It owns the table of keys (keys.go), from which everything else follows: the defaults,
// the variables, the flags, the checks, the example file, the manual page, and which keys
// a reload can change. It knows the kind and range of a value, but not its use. Package
// main maps the values to the options of the other packages.
//
// Invariants:
//
//   - Strict: an unknown key, a wrong unit or an impossible combination is an error that
//     names the key and where it was set. All errors are reported at once. A value in a
//     file takes effect or is an error; a default never replaces it silently.
//   - Every key has exactly one variable, and no two keys share one.
//   - Only the table of keys determines what the text of a value means.
//
// Viper merges the sources, with these restrictions:
//
//   - Viper's reader does not read the file. That reader lower-cases keys, so that it
//     would accept Sync as sync. It has no line numbers for errors. It returns what YAML
//     makes of a value: 1e3 would be the number 1000, and 0x10 would be 16. This package
//     walks the YAML nodes instead, and passes their text to viper.
//   - BindEnv binds each key to its variable. With AutomaticEnv, a variable named like a
//     section, such as COLLECTORD_HTTP=x, would remove the whole section.
//   - A variable that is set and empty counts as set (AllowEmptyEnv). The checks report
//     it if an empty value is not valid.
package config
