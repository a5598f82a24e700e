package sources

import (
	"fmt"
	"strings"
)

// maxMatchLimit bounds LIMIT: the keys of a pattern are held in memory.
const maxMatchLimit = 1_000_000

// redisContainers are the commands whose first argument names what they do.
var redisContainers = map[string]bool{
	"ACL": true, "CLIENT": true, "CLUSTER": true, "COMMAND": true, "CONFIG": true, "FUNCTION": true, "LATENCY": true,
	"MEMORY": true, "MODULE": true, "OBJECT": true, "PUBSUB": true, "SCRIPT": true, "SLOWLOG": true, "XGROUP": true, "XINFO": true,
}

// redisListed are the commands that are run although the server does not flag
// them as read-only: they tell of the server and change nothing.
var redisListed = map[string]bool{
	"ACL WHOAMI": true, "CLIENT INFO": true, "CLIENT LIST": true, "CLUSTER INFO": true, "COMMAND COUNT": true, "CONFIG GET": true,
	"DBSIZE": true, "INFO": true, "LASTSAVE": true, "LATENCY HISTOGRAM": true, "LATENCY HISTORY": true, "LATENCY LATEST": true,
	"MEMORY STATS": true, "MODULE LIST": true, "PING": true, "PUBSUB CHANNELS": true, "PUBSUB NUMPAT": true, "PUBSUB NUMSUB": true,
	"PUBSUB SHARDCHANNELS": true, "PUBSUB SHARDNUMSUB": true, "SCAN": true, "SLOWLOG GET": true, "SLOWLOG LEN": true, "TIME": true,
}

// redisRefused are commands that a server may flag as read-only and that are
// not run all the same, with what to write instead.
var redisRefused = map[string]string{
	"KEYS":         "it keeps the server from everything else; write SCAN MATCH and the pattern",
	"SCAN":         "its cursor is kept for you: write SCAN MATCH and the pattern",
	"HSCAN":        "its cursor is not followed; write HGETALL or HMGET",
	"SSCAN":        "its cursor is not followed; write SMEMBERS or SCARD",
	"ZSCAN":        "its cursor is not followed; write ZRANGE with WITHSCORES",
	"XREAD":        "it waits, or gives the same entries again; write XLEN, XRANGE or XINFO",
	"MEMORY PURGE": "it does not read",
	"PFCOUNT":      "it writes the number that it has counted beside what it counts; have the application keep it",
	"TOUCH":        "it changes when keys are evicted; write EXISTS",
}

// redisFlags are what a server says of one of its commands.
type redisFlags struct {
	readOnly bool
	blocks   bool // for as long as it is told
	key      int  // the place of the first key among the arguments; 0: none, or only the arguments tell
}

// check tells whether the statement is run on a server that says so of it.
func (f redisFlags) check(name string) error {
	switch {
	case redisListed[name]:
		return nil
	case !f.readOnly:
		return fmt.Errorf("%s is not run: the server does not flag it as read-only, and it is none of the commands like INFO that are run all the same", name)
	case f.blocks:
		return fmt.Errorf("%s is not run: it waits for others to write; write a command that answers at once", name)
	}
	return nil
}

// isScript tells whether the statement is one that runs until it ends by
// itself, or is killed; kill is the command that does.
func (s redisStatement) isScript() (kill []any, is bool) {
	switch strings.ToUpper(s.args[0]) {
	case "EVAL_RO", "EVALSHA_RO":
		return []any{"SCRIPT", "KILL"}, true
	case "FCALL_RO":
		return []any{"FUNCTION", "KILL"}, true
	}
	return nil, false
}

// key returns the first key of the statement, by which a cluster finds the node
// that has it.
func (s redisStatement) key(f redisFlags) (string, bool) {
	at := f.key
	if at == 0 {
		// The number of keys stands in front of them.
		switch strings.ToUpper(s.args[0]) {
		case "EVAL_RO", "EVALSHA_RO", "FCALL_RO":
			at = 2
		case "ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD", "SINTERCARD":
			at = 1
		default:
			return "", false
		}
		if at >= len(s.args) || s.args[at] == "0" {
			return "", false
		}
		at++
	}
	if at >= len(s.args) {
		return "", false
	}
	return s.args[at], true
}
