package sources_test

import (
	"database/sql"
	"testing"

	_ "modernc.org/sqlite"
)

func sqliteBenched(b *testing.B) benched {
	path := b.TempDir() + "/bench.db"
	openApp(b, path).exec(b, `CREATE TABLE bench AS
		WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 10000)
		SELECT 'status-' || n % 7 AS status, 'region-' || n % 13 AS region, 'customer-' || n AS customer, n AS number FROM c`)
	const statement = "SELECT status, region, customer, number FROM bench"
	return benched{sqliteSource(path), statement, func(b *testing.B) func() error {
		db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close() })
		labels := make([]byte, 0, 256)
		return func() error {
			result, err := db.QueryContext(b.Context(), statement)
			if err != nil {
				return err
			}
			defer result.Close()
			var (
				status, region, customer sql.RawBytes
				number                   int64
			)
			for result.Next() {
				if err := result.Scan(&status, &region, &customer, &number); err != nil {
					return err
				}
				labels = append(append(append(labels[:0], status...), region...), customer...)
			}
			return result.Err()
		}
	}}
}
