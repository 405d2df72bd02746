// Package histogram counts values in buckets. It is cheap enough for every commit and
// request. It does not own names or output: package admin turns a Distribution into
// metrics.
package histogram
