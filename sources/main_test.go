package sources_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"testing"

	"go.uber.org/goleak"

	"sql2metrics/e2e/servers"
)

// shared is the PostgreSQL server of the tests that need not stop one.
var shared servers.SharedPostgres

// sharedMariaDB is the same for MariaDB.
var sharedMariaDB servers.SharedMariaDB

// suite ends the shared servers before goroutines are counted.
type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	if err := errors.Join(shared.Remove(), sharedClickHouse.Remove(), sharedMariaDB.Remove(), sharedRedis.Remove()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// withoutUnasked leaves out of the standard log what net/http prints of servers
// that speak unasked: kilobytes of nonsense, beside which no failure is seen.
type withoutUnasked struct{ io.Writer }

func (w withoutUnasked) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("Unsolicited response received on idle HTTP channel")) {
		return len(line), nil
	}
	return w.Writer.Write(line)
}

func TestMain(m *testing.M) {
	if task := os.Getenv(taskVariable); task != "" {
		os.Exit(runTask(task))
	}
	// Tests that run in parallel wait for servers; they do not compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	log.SetOutput(withoutUnasked{os.Stderr})
	goleak.VerifyTestMain(suite{m})
}
