//go:build tools

// Package actionlint names the linter of the workflows in .github/workflows.
package actionlint

import _ "github.com/rhysd/actionlint/cmd/actionlint"
