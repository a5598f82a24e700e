//go:build !linux

package cli

// forgetStart does nothing where it is not known how.
func forgetStart() {}
