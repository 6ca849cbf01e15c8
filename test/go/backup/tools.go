//go:build tools

// Package backup names the programs of the backup scenario.
package backup

import (
	_ "github.com/restic/restic/cmd/restic"
	_ "github.com/versity/versitygw/cmd/versitygw"
)
