package cli

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver, for the side of the application
)

// workload is the demo's application: a shop that takes orders.
type workload struct {
	db *sql.DB
}

var (
	shopStatuses = []string{"open", "paid", "shipped", "cancelled"}
	shopRegions  = []string{"eu", "us", "asia"}
)

func openWorkload(ctx context.Context, folder string) (*workload, error) {
	file := &url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(folder, "shop.db")}
	db, err := sql.Open("sqlite", file.String()+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, `CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT NOT NULL, region TEXT NOT NULL, amount NUMERIC NOT NULL)`)
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("make the demo's database: %w", err)
	}
	return &workload{db}, nil
}

// run takes some orders and moves some on, every now and then, until ctx
// ends.
func (w *workload) run(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := w.step(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write to the demo's database: %w", err)
		}
	}
}

func (w *workload) step(ctx context.Context) error {
	region := shopRegions[rand.IntN(len(shopRegions))]
	amount := float64(rand.IntN(10000)) / 100
	if _, err := w.db.ExecContext(ctx, `INSERT INTO orders (status, region, amount) VALUES ('open', ?, ?)`, region, amount); err != nil {
		return err
	}
	next := shopStatuses[1+rand.IntN(len(shopStatuses)-1)]
	_, err := w.db.ExecContext(ctx, `UPDATE orders SET status = ? WHERE id = (SELECT id FROM orders WHERE status = 'open' AND random() % 3 = 0 LIMIT 1)`, next)
	return err
}

func (w *workload) close() error { return w.db.Close() }
