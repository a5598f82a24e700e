// Command sql2metrics runs queries on a database, turns rows into Prometheus
// samples and ships them with remote write, through a log that survives
// restarts, outages and crashes.
package main

import (
	"os"

	"sql2metrics/agent/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
