//go:build !unix

package spool

import "os"

// lockFile cannot lock here: give each proxy a spool of its own.
func lockFile(*os.File) error { return nil }
