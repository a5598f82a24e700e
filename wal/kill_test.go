package wal

func appendUntilKilled(string) {}
