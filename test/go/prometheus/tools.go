//go:build tools

// Package prometheus names the programs that the tests of alerts and dashboard build.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
