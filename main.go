// Command sql2metrics runs queries on a database, turns rows into Prometheus
// samples and ships them with remote write, through a log that survives
// restarts, outages and crashes.
package main

import (
	"os"
	"runtime"

	"github.com/prometheus/common/version"

	"sql2metrics/agent/cli"
)

func main() {
	runtime.MemProfileRate = 0 // its table takes a megabyte; run sets it where it serves profiles
	if version.Version == "" {
		version.Version = "devel" // built without make; remote write wants one
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
