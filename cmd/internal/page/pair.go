package page

import "hotlap/cmd/internal/load"

func newPair(a, b *load.Report, c *load.Comparison) any { return nil }
