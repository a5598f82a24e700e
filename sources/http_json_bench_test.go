package sources_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/tidwall/gjson"
)

// jsonBench is the document that the benchmark reads.
func jsonBench() []byte {
	b := []byte(`{"took":12,"hits":[`)
	for n := range benchRows {
		b = fmt.Appendf(b, `{"status":"status-%d","region":"region-%d","customer":"customer-%d","n":%d},`, n%7, n%13, n, n)
	}
	return append(b[:len(b)-1], "]}"...)
}

// benchmarkHTTPJSON is the row of [BenchmarkRows] for JSON. Its server is in this
// process, and what it costs is in both figures.
func benchmarkHTTPJSON(b *testing.B) {
	document := jsonBench()
	server := answers(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(document)))
		_, _ = w.Write(document)
	})
	b.Run("ours", func(b *testing.B) {
		readRows(b, apiAt(b, server.URL), ask("GET", "hits", "status", "region", "customer", "n"))
	})
	b.Run("bare", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
		defer client.CloseIdleConnections()
		labels := make([]byte, 0, 256)
		var total float64
		measure(b, func() error {
			answer, err := client.Get(server.URL)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				return err
			}
			gjson.GetBytes(body, "hits").ForEach(func(_, row gjson.Result) bool {
				labels = labels[:0]
				for _, name := range []string{"status", "region", "customer"} {
					labels = append(labels, row.Get(name).String()...)
				}
				total += row.Get("n").Float()
				return true
			})
			return nil
		})
	})
}
