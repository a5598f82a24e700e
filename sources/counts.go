package sources

// connectionCounts tells whom the options name of what connections there are.
type connectionCounts struct {
	opened func()
	change func(ConnectionState, int)
}

func newConnectionCounts(o Options) connectionCounts {
	c := connectionCounts{o.Opened, o.Connections}
	if c.opened == nil {
		c.opened = func() {}
	}
	if c.change == nil {
		c.change = func(ConnectionState, int) {}
	}
	return c
}

// open is for a connection that begins with a query.
func (c connectionCounts) open() {
	c.opened()
	c.change(ConnectionBusy, 1)
}
