package agent

import (
	"fmt"
	"strings"
	"testing"

	"sql2metrics/config"
)

// BenchmarkReload reloads a configuration with a hundred queries of an SQLite
// database: none has changed, or each.
func BenchmarkReload(b *testing.B) {
	for _, changed := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("changed=%d", changed), func(b *testing.B) {
			folder := b.TempDir()
			writeConfig(b, folder+"/shop.db", "") // an empty file is an empty database
			generation := 0
			load := func() (*config.Config, error) {
				generation++
				var y strings.Builder
				y.WriteString("self: {enabled: false}\nsources: [{name: shop, type: sqlite, path: shop.db, collectors: [shop]}]\ncollectors:\n  - collector_name: shop\n    metrics:\n")
				for i := range 100 {
					help := 0
					if i < changed {
						help = generation
					}
					fmt.Fprintf(&y, "      - {metric_name: m%d, type: gauge, help: Number %d., values: [n], query: SELECT %d AS n}\n", i, help, i)
				}
				file := folder + "/sql2metrics.yml"
				writeConfig(b, file, y.String())
				return config.Load(file, config.Options{StoragePath: folder + "/log"})
			}
			a := runInside(b, load)
			for b.Loop() {
				if err := a.reload(b.Context(), "benchmark"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
