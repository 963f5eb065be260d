//go:build !unix

package journal

import "os"

// lockFile cannot lock here: give each proxy a data_dir of its own.
func lockFile(*os.File) error { return nil }
