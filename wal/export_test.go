package wal

// WithVersion returns options of a program that knows the format up to that
// version, and writes it.
func (o Options) WithVersion(version uint32) Options {
	o.version = version
	return o
}
