package sources

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
)

const (
	// scanPage is how many keys a server looks at for one SCAN, some tenths of a
	// millisecond of its time.
	scanPage = 1000

	// maxScanned is how many keys a pattern may have looked at: every key there
	// is, however few match.
	maxScanned = 1_000_000
)

// keyScan is the search for the keys of one pattern.
type keyScan struct {
	match   *redisMatch
	pages   int
	seed    maphash.Seed
	found   map[uint64]struct{} // the hashes of keys: a server may name one twice
	cursor  string
	current []string // new keys of the last page
}

// queryKeys runs s for each key of its pattern, page by page on every master.
// The rows begin with the key.
func (r *redisServer) queryKeys(ctx context.Context, c *redisConn, s redisStatement, w *redisRows) error {
	masters, err := c.masters(ctx)
	if err != nil {
		return err
	}
	count := s.match.at == 0 && strings.EqualFold(s.args[0], "DBSIZE")
	k := keyScan{match: s.match, seed: maphash.MakeSeed(), found: make(map[uint64]struct{})}
	if s.match.at > 0 {
		w.lead = []string{"key"}
	}
	for _, address := range masters {
		n, err := c.node(ctx, address)
		if err != nil {
			return err
		}
		if err := c.prepare(ctx, n); err != nil {
			return err
		}
		for k.cursor = "0"; ; {
			if err := k.next(ctx, n); err != nil {
				return err
			}
			switch {
			case count:
			case s.match.at == 0:
				err = k.emit(w)
			default:
				err = r.queryPage(ctx, n, s, k.current, w)
			}
			if err != nil {
				return err
			}
			if k.cursor == "0" {
				break
			}
		}
	}
	if !count {
		return nil
	}
	w.begin("value")
	w.set(0, IntValue(int64(len(k.found))))
	return w.emit()
}

// next asks for one more page.
func (k *keyScan) next(ctx context.Context, n *redisNode) error {
	if k.pages++; k.pages*scanPage > maxScanned {
		return fmt.Errorf("pattern %s: there are more than %d keys to look at, and each is, however few match; have the application keep a number, or a set of the keys", k.match.pattern, maxScanned)
	}
	args := []any{"SCAN", k.cursor, "MATCH", k.match.pattern, "COUNT", scanPage}
	if k.match.kind != "" {
		args = append(args, "TYPE", k.match.kind)
	}
	r, err := n.do(ctx, args...)
	if err != nil {
		return err
	}
	if _, err := r.list(); err != nil {
		return err
	}
	cursor, err := r.text()
	if err != nil {
		return err
	}
	k.cursor = string(cursor)
	keys, err := r.list()
	if err != nil {
		return err
	}
	k.current = k.current[:0]
	for range keys {
		key, err := r.text()
		if err != nil {
			return err
		}
		hash := maphash.Bytes(k.seed, key)
		if _, known := k.found[hash]; known {
			continue
		}
		if len(k.found) == k.match.limit {
			return fmt.Errorf("pattern %s matches more than %d keys; narrow it, or write LIMIT and a number behind it", k.match.pattern, k.match.limit)
		}
		k.found[hash] = struct{}{}
		k.current = append(k.current, string(key))
	}
	return nil
}

// emit hands on the keys of a page as rows.
func (k *keyScan) emit(w *redisRows) error {
	for _, key := range k.current {
		w.begin("key")
		w.set(0, TextValue([]byte(key)))
		if err := w.emit(); err != nil {
			return err
		}
	}
	return nil
}

// queryPage runs s for the keys of a page. All its commands are sent at once,
// but for scripts: of those that are under way, only one could be killed.
func (r *redisServer) queryPage(ctx context.Context, n *redisNode, s redisStatement, keys []string, w *redisRows) error {
	together := len(keys)
	if _, is := s.isScript(); is {
		together = 1
	}
	args := s.args
	for len(keys) > 0 {
		now := keys[:together]
		keys = keys[together:]
		commands := make([][]any, len(now))
		for i, key := range now {
			commands[i] = make([]any, len(args))
			for at, a := range args {
				commands[i][at] = a
			}
			commands[i][s.match.at] = key
		}
		var answers reply
		err := r.interruptible(ctx, n, s, func() (err error) {
			answers, err = n.execAll(commands)
			return err
		})
		if err != nil {
			return err
		}
		for _, key := range now {
			w.values = []Value{TextValue([]byte(key))}
			if err := s.shape()(&answers, args, w); err != nil {
				return keyError(key, err)
			}
		}
	}
	return nil
}

// keyError names the key to which an answer of the server belongs.
func keyError(key string, err error) error {
	if said, is := err.(redisError); is {
		hint := ""
		if strings.HasPrefix(string(said), "WRONGTYPE") {
			hint = "; write TYPE and a type behind the pattern"
		}
		return fmt.Errorf("key %s: %w%s", key, err, hint)
	}
	return err
}
