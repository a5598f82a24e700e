package sources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
)

func TestRedisWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                            nil,
		" \t\n":                       nil,
		"LLEN queue\n":                {"LLEN", "queue"},
		"  GET  a  ":                  {"GET", "a"},
		"GET\n  two-lines\r\n":        {"GET", "two-lines"},
		`GET "a b"`:                   {"GET", "a b"},
		`GET 'a b'`:                   {"GET", "a b"},
		`GET ""`:                      {"GET", ""},
		`GET "\x41\xfF\x00"`:          {"GET", "A\xff\x00"},
		`GET "\n\r\t\b\a\"\\\q"`:      {"GET", "\n\r\t\b\a\"\\q"},
		`GET "\x4"`:                   {"GET", "x4"},
		`GET "it's"`:                  {"GET", "it's"},
		`GET 'say "a"\'s\n'`:          {"GET", `say "a"'s\n`},
		`GET user:"a b"`:              {"GET", "user:a b"},
		"EVAL_RO 'return {1,\n 2}' 0": {"EVAL_RO", "return {1,\n 2}", "0"},
	} {
		words, err := redisWords(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{`GET "a`, `GET 'a`, `GET "a"b`, `GET 'a'b`, `GET "a\`, `GET "a""b"`} {
		if words, err := redisWords(line); err == nil {
			t.Errorf("%s is taken as %v", line, words)
		}
	}
}

// What was put in quotes comes out again, whatever it is.
func FuzzRedisWords(f *testing.F) {
	f.Add("GET", "queue:1", "a b")
	f.Add("a\"b", "\x00\xff", "it's \\x41")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		const digits = "0123456789abcdef"
		quote := func(s string) string {
			var q strings.Builder
			q.WriteByte('"')
			for i := range len(s) {
				if strings.IndexByte("\"\\", s[i]) >= 0 || s[i] < ' ' {
					q.WriteString(`\x` + string(digits[s[i]>>4]) + string(digits[s[i]&15]))
					continue
				}
				q.WriteByte(s[i])
			}
			return q.String() + `"`
		}
		words, err := redisWords(quote(a) + " " + quote(b) + "\n" + quote(c))
		if err != nil {
			t.Fatal(err)
		}
		want := []redisWord{{a, true}, {b, true}, {c, true}}
		if diff := cmp.Diff(want, words, cmp.AllowUnexported(redisWord{})); diff != "" {
			t.Error(diff)
		}
		// What is not quoted is taken or refused, and means the same when it is
		// put together of its words.
		words, err = redisWords(a)
		if err != nil {
			return
		}
		var again []string
		for _, w := range words {
			again = append(again, quote(w.text))
		}
		reread, err := redisWords(strings.Join(again, " "))
		if err != nil || len(reread) != len(words) {
			t.Fatalf("%q is %v, and again %v, %v", a, words, reread, err)
		}
		_, _ = parseRedis(a)
	})
}

func TestRedisMatch(t *testing.T) {
	for text, want := range map[string]redisStatement{
		"LLEN MATCH queue:*":                     {[]string{"LLEN", ""}, &redisMatch{1, "queue:*", "", defaultMatchLimit}},
		"llen match queue:* type list":           {[]string{"llen", ""}, &redisMatch{1, "queue:*", "list", defaultMatchLimit}},
		"HGET MATCH u:* LIMIT 5 TYPE hash name":  {[]string{"HGET", "", "name"}, &redisMatch{1, "u:*", "hash", 5}},
		"HGET MATCH u:* 'TYPE' x":                {[]string{"HGET", "", "TYPE", "x"}, &redisMatch{1, "u:*", "", defaultMatchLimit}},
		"HGET user 'MATCH'":                      {[]string{"HGET", "user", "MATCH"}, nil},
		"ZRANGE MATCH b:* 0 -1 WITHSCORES":       {[]string{"ZRANGE", "", "0", "-1", "WITHSCORES"}, &redisMatch{1, "b:*", "", defaultMatchLimit}},
		"MEMORY USAGE MATCH *":                   {[]string{"MEMORY", "USAGE", ""}, &redisMatch{2, "*", "", defaultMatchLimit}},
		"EVAL_RO 'return 1' 1 MATCH * LIMIT 9 x": {[]string{"EVAL_RO", "return 1", "1", "", "x"}, &redisMatch{3, "*", "", 9}},
		"SCAN MATCH a* TYPE set":                 {[]string{"SCAN"}, &redisMatch{0, "a*", "set", defaultMatchLimit}},
		"DBSIZE MATCH a*":                        {[]string{"DBSIZE"}, &redisMatch{0, "a*", "", defaultMatchLimit}},
	} {
		got, err := parseRedis(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(redisStatement{}, redisMatch{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// What no server is asked for is refused when a configuration is loaded.
func TestRedisStatementsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "no command found",
		`"" a`:                       "the name of the command is empty",
		`GET "a`:                     "not closed",
		"KEYS *":                     "write SCAN MATCH",
		"scan 0 MATCH a*":            "write SCAN MATCH",
		"SCAN 0":                     "write SCAN MATCH",
		"HSCAN h 0":                  "HGETALL",
		"XREAD BLOCK 0 STREAMS s $":  "XREAD is not run",
		"MEMORY PURGE":               "does not read",
		"XRANGE s ({{cursor}} +":     "{{cursor}} means nothing",
		"LLEN MATCH":                 "MATCH without a pattern",
		"LLEN MATCH a* MATCH b*":     "a second MATCH",
		"LLEN MATCH a* LIMIT 0":      "LIMIT 0",
		"LLEN MATCH a* LIMIT 10e9":   "LIMIT 10e9",
		"SCAN MATCH a* COUNT 100000": "words behind it",
	} {
		err := CheckStatement(config.Source{Type: config.TypeRedis}, config.Query{SQL: text})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// FuzzRedisReply gives bytes as the driver does to everything that reads a
// reply: none of it may panic, go on for ever or ask for memory that the bytes
// do not take.
func FuzzRedisReply(f *testing.F) {
	for _, seed := range []string{
		"$5\r\nhello\r\n", ":7\r\n", "_\r\n", "*2\r\n:1\r\n$-1\r\n", "%1\r\n+a\r\n,1.5\r\n", "|1\r\n+a\r\n+b\r\n~1\r\n#t\r\n",
		"*1\r\n*2\r\n+a\r\n:1\r\n", "-ERR no\r\n", "*-1\r\n", "=7\r\ntxt:abc\r\n", "(123\r\n", "*1\r\n%1\r\n+n\r\n:1\r\n",
		"$40\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\nrole:x\r\n\r\n", "*1000000000\r\n", "$1000000000\r\n", "%-5\r\n",
	} {
		f.Add("INFO", []byte(seed))
		f.Add("XRANGE", []byte(seed))
	}
	names := []string{
		"INFO", "CLUSTER INFO", "CLIENT LIST", "CONFIG GET", "MEMORY STATS", "XINFO GROUPS", "HGETALL", "SMEMBERS", "MGET", "TIME",
		"SLOWLOG GET", "LATENCY HISTOGRAM", "XRANGE", "XPENDING", "ZRANGE a 0 1 WITHSCORES", "GET",
	}
	f.Fuzz(func(t *testing.T, _ string, data []byte) {
		var b replyBuffer
		b.reset(1 << 20)
		for line := range strings.Lines(string(data)) {
			if _, err := b.Write([]byte(line)); err != nil {
				break
			}
		}
		for _, name := range names {
			s := redisStatement{args: strings.Fields(name)}
			rows := 0
			w := &redisRows{each: func(*Row) error {
				if rows++; rows > len(data) {
					t.Fatalf("%s: %d rows of %d bytes", name, rows, len(data))
				}
				return nil
			}}
			_ = s.shape()(&reply{data}, s.args, w)
		}
		r := reply{data}
		_, _ = readSlots(r, "127.0.0.1:6379")
		_, _ = new(redisFlags).read(&r)
		_ = roleOf(reply{data})
	})
}

// The slots are those that Redis's documentation gives.
func TestRedisSlots(t *testing.T) {
	for key, want := range map[string]int{"123456789": 12739, "": 0, "foo": 12182, "{foo}.bar": 12182, "a{foo}b{bar}": 12182, "{}foo": slotOf("{}foo")} {
		if got := slotOf(key); got != want {
			t.Errorf("slot of %q is %d, want %d", key, got, want)
		}
	}
	if slotOf("foo{}{bar}") == slotOf("bar") {
		t.Error("empty braces are not the whole key")
	}
}
