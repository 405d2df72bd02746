// Package histogram counts values in buckets, cheaply enough for every commit and
// request. It owns no names and no output: package admin turns a Distribution into
// metrics.
package histogram
