// Package wal is the write-ahead log between collection and shipping.
package wal
