//go:build !linux

package wal

import "os"

// fdatasync is a whole fsync where there is no lesser one.
func fdatasync(f *os.File) error { return f.Sync() }
