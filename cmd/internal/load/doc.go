// Package load generates load and measures what comes back: the core of
// hotlap bench.
package load
