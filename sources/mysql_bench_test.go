package sources_test

import (
	"context"
	"database/sql/driver"
	"io"
	"strconv"
	"testing"

	"github.com/go-sql-driver/mysql"

	"sql2metrics/config"
)

func mysqlBenched(b *testing.B) benched {
	m := sharedMariaDB.Get(b)
	m.Exec(b, `CREATE OR REPLACE TABLE bench AS SELECT CONCAT('status-', seq % 7) AS status, CONCAT('region-', seq % 13) AS region,
		CONCAT('customer-', seq) AS customer, CAST(seq AS SIGNED) AS number FROM seq_1_to_10000`)
	const sql = "SELECT status, region, customer, number FROM bench"
	c := mysqlSource(m, m.Account(b, documented))
	c.TLS = config.TLS{}
	return benched{c, sql, func(b *testing.B) func() error {
		conn := bareMySQL(b, c)
		labels := make([]byte, 0, 256)
		return func() error {
			rows, err := conn.QueryContext(b.Context(), sql, nil)
			if err != nil {
				return err
			}
			defer rows.Close()
			cells := make([]driver.Value, len(rows.Columns()))
			for {
				switch err := rows.Next(cells); {
				case err == io.EOF:
					return nil
				case err != nil:
					return err
				}
				labels = labels[:0]
				for _, cell := range cells[:3] {
					labels = append(labels, cell.([]byte)...)
				}
			}
		}
	}}
}

func bareMySQL(b *testing.B, c config.Source) driver.QueryerContext {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = c.User, c.Password.Reveal(), c.Database
	cfg.Addr = c.Host + ":" + strconv.Itoa(c.Port)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := connector.Connect(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn.(driver.QueryerContext)
}
