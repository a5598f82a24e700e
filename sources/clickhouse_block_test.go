package sources_test

import (
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// encodeBlock is a block as another implementation of the protocol writes it.
func encodeBlock(t testing.TB, revision int, columns ...chproto.InputColumn) []byte {
	t.Helper()
	var b chproto.Buffer
	block := chproto.Block{Columns: len(columns)}
	if len(columns) > 0 {
		block.Rows = columns[0].Data.Rows()
	}
	encode := block.EncodeBlock
	if revision == 0 {
		encode = block.EncodeRawBlock
	}
	if err := encode(&b, revision, columns); err != nil {
		t.Fatal(err)
	}
	return b.Buf
}

// someColumns has what is cut into parts in the most ways.
func someColumns() []chproto.InputColumn {
	words := new(chproto.ColStr).LowCardinality()
	words.AppendArr([]string{"a", "b", "a"})
	nullable := new(chproto.ColInt64).Nullable()
	nullable.AppendArr([]chproto.Nullable[int64]{chproto.NewNullable(int64(7)), chproto.Null[int64](), chproto.NewNullable(int64(-1))})
	arrays := new(chproto.ColStr).Array()
	arrays.AppendArr([][]string{{"x", "y'z"}, {}, {"w"}})
	maps := chproto.NewMap[string, string](new(chproto.ColStr), new(chproto.ColStr))
	for range 3 {
		maps.Append(map[string]string{"k": "v"})
	}
	return []chproto.InputColumn{
		{Name: "words", Data: words}, {Name: "number", Data: nullable}, {Name: "arrays", Data: arrays}, {Name: "map", Data: maps},
	}
}

const someRows = `a|7|['x','y\'z']|{'k':'v'}
b||[]|{'k':'v'}
a|-1|['w']|{'k':'v'}`

func TestClickHouseBlock(t *testing.T) {
	block := encodeBlock(t, 0, someColumns()...)
	var got []string
	err := sources.ReadClickHouse(append(block, block...), 0, func(r *sources.Row) error { got = append(got, line(r)); return nil })
	if want := someRows + "\n" + someRows; err != nil || strings.Join(got, "\n") != want {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
	for n := range len(block) {
		if err := sources.ReadClickHouse(block[:n], 0, ignore); n > 0 && err == nil {
			t.Fatalf("no error for the first %d bytes", n)
		}
	}
}

// Whatever the bytes say, reading them ends, with rows or an error, and takes no
// more memory than has come.
func FuzzClickHouseBlock(f *testing.F) {
	f.Add(encodeBlock(f, 0, someColumns()...))
	f.Add([]byte("\x01\x01\x01v\x17Variant(String, UInt64)\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01x"))
	f.Add([]byte("\x01\x01\x01v\x04JSON\x01\x00\x00\x00\x00\x00\x00\x00\x02{}"))
	f.Add([]byte("\x01\x00\x01v\x0fNullable(Int64)\x00\x30"))
	f.Add([]byte("\x01\xff\xff\xff\x1f\x01v\x06String"))
	f.Add([]byte("\x01\x01\x01v\x0cDecimal(9,9)\x01\x00\x00\x00"))
	f.Add([]byte("\x01\x01\x01v\x10Enum8('\\'' = -1)\xff"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var label []byte
		_ = sources.ReadClickHouse(b, 0, func(r *sources.Row) error {
			for _, v := range r.Values {
				label = v.AppendText(label[:0])
				_, _ = v.Float()
			}
			return nil
		})
	})
}

// speak answers a client of the native protocol at the driver's revision with
// packets of another implementation, as a current server would send them.
func speak(t testing.TB, c net.Conn, revision int, answer func(*chproto.Buffer)) {
	r := chproto.NewReader(c)
	var hello chproto.ClientHello
	if code, err := r.UVarInt(); err != nil || chproto.ClientCode(code) != chproto.ClientCodeHello || hello.Decode(r) != nil {
		return
	}
	var b chproto.Buffer
	greeting := chproto.ServerHello{Name: "ClickHouse", Major: 26, Minor: 5, Revision: revision, Timezone: "UTC", DisplayName: "db", Patch: 1}
	greeting.EncodeAware(&b, revision)
	if _, err := c.Write(b.Buf); err != nil {
		return
	}
	if chproto.FeatureAddendum.In(revision) {
		if _, err := r.Str(); err != nil {
			return
		}
	}
	for {
		code, err := r.UVarInt()
		if err != nil {
			return
		}
		b.Reset()
		switch chproto.ClientCode(code) {
		case chproto.ClientCodePing:
			chproto.ServerCodePong.Encode(&b)
		case chproto.ClientCodeQuery:
			var q chproto.Query
			var data chproto.ClientData
			if err := q.DecodeAware(r, revision); err != nil {
				t.Errorf("the query cannot be read: %v", err)
				return
			}
			var none chproto.Block
			if code, err := r.UVarInt(); err != nil || chproto.ClientCode(code) != chproto.ClientCodeData || data.DecodeAware(r, revision) != nil || none.DecodeBlock(r, revision, nil) != nil {
				t.Error("no empty block follows the query")
				return
			}
			if strings.Contains(q.Body, "system.settings") {
				encodeData(t, &b, chproto.ServerCodeData, revision, chproto.InputColumn{Name: "v", Data: texts("26.5.1")}, chproto.InputColumn{Name: "r", Data: texts("0")})
				chproto.ServerCodeEndOfStream.Encode(&b)
				break
			}
			answer(&b)
		default:
			return
		}
		if _, err := c.Write(b.Buf); err != nil {
			return
		}
	}
}

func texts(s ...string) *chproto.ColStr {
	c := new(chproto.ColStr)
	c.AppendArr(s)
	return c
}

func encodeData(t testing.TB, b *chproto.Buffer, code chproto.ServerCode, revision int, columns ...chproto.InputColumn) {
	code.Encode(b)
	b.PutString("")
	b.PutRaw(encodeBlock(t, revision, columns...))
}

// TestClickHouseRevisions reads what servers of several ages send, packets of
// every kind among it.
func TestClickHouseRevisions(t *testing.T) {
	for name, revision := range map[string]int{"20.1": 54430, "21": 54450, "22": 54453, "current": 54460, "newer": 54475} {
		t.Run(name, func(t *testing.T) {
			spoken := min(revision, 54460)
			l := fakeServer(t, func(c net.Conn) {
				speak(t, c, spoken, func(b *chproto.Buffer) {
					encodeData(t, b, chproto.ServerCodeData, spoken, chproto.InputColumn{Name: "n", Data: new(chproto.ColInt64)})
					chproto.ServerCodeProgress.Encode(b)
					chproto.Progress{Rows: 3, Bytes: 300, TotalRows: 1000, WroteRows: 1, WroteBytes: 2, ElapsedNs: 400}.EncodeAware(b, spoken)
					n := chproto.ColInt64{1, 2}
					encodeData(t, b, chproto.ServerCodeData, spoken, chproto.InputColumn{Name: "n", Data: &n})
					encodeData(t, b, chproto.ServerCodeTotals, spoken, chproto.InputColumn{Name: "n", Data: &n})
					encodeData(t, b, chproto.ServerProfileEvents, spoken, chproto.InputColumn{Name: "host_name", Data: texts("db")})
					chproto.Profile{Rows: 2, Blocks: 1, Bytes: 16, AppliedLimit: true, RowsBeforeLimit: 200, CalculatedRowsBeforeLimit: true}.EncodeAware(b, spoken)
					chproto.ServerCodeEndOfStream.Encode(b)
				})
			})
			c := through(t, config.Source{Name: "ch", Type: config.TypeClickHouse, User: "u", Compression: "none", MaxConnections: 1, Timeout: 30 * time.Second}, l)
			s := open(t, c)
			for range 2 {
				if got := strings.Join(read(t, s, "SELECT n"), ","); got != "1,2" {
					t.Errorf("rows %s", got)
				}
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that sends nonsense is an error with both names, at every point of
// the talk.
func TestClickHouseNonsense(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	nonsense := func() []byte {
		b := make([]byte, 1+random.IntN(200))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for i := range 12 {
		first, second := nonsense(), nonsense()
		l := fakeServer(t, func(c net.Conn) {
			if i%3 == 0 {
				_, _ = c.Write(first)
				return
			}
			speak(t, c, 54460, func(b *chproto.Buffer) {
				if i%3 == 1 {
					chproto.ServerCodeData.Encode(b)
				}
				b.PutRaw(second)
			})
		})
		c := through(t, config.Source{Name: "ch", Type: config.TypeClickHouse, User: "u", Compression: "lz4", MaxConnections: 1, Timeout: 300 * time.Millisecond}, l)
		if i%3 != 0 {
			c.Compression = "none"
		}
		q := query("SELECT n")
		q.Timeout = 100 * time.Millisecond
		err := open(t, c).Query(t.Context(), q, ignore)
		if err == nil {
			t.Errorf("no error for %q", second)
			continue
		}
		wantOnce(t, err, "ch")
	}
}

func TestClickHouseOpenRefuses(t *testing.T) {
	for dsn, want := range map[string]string{
		"clickhouse://u:very%ZZsecret@db/app":                "cannot be read",
		"u:verysecret@db":                                    "cannot be read",
		"redis://u:verysecret@db":                            "another scheme",
		"clickhouse://u:verysecret@db/app?dial_timeout=10s":  `the parameter "dial_timeout", which means nothing here`,
		"clickhouse://u:verysecret@db/app?secure=verysecret": "write true or false",
	} {
		s, err := sources.Open(config.Source{Name: "s1", Type: config.TypeClickHouse, DSN: config.NewSecret(dsn)}, sources.Options{})
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: no error", dsn)
			continue
		}
		if got := err.Error(); !strings.Contains(got, want) || strings.Contains(got, "secret") {
			t.Errorf("%s: error is %v", dsn, err)
		}
	}
}

func TestClickHouseDSN(t *testing.T) {
	ch := sharedClickHouse.Get(t)
	for _, dsn := range []string{
		"clickhouse://reader2:p%40ss%3A%2F%3F%23%25@" + ch.Addr() + "/system?compress=zstd",
		"tcp://127.0.0.1:1," + ch.Addr() + "?username=reader2&password=p%40ss%3A%2F%3F%23%25&database=system",
		"http://reader2:p%40ss%3A%2F%3F%23%25@" + net.JoinHostPort(ch.Host, strconv.Itoa(ch.HTTPPort)) + "/system",
	} {
		s := open(t, config.Source{Name: "ch", Type: config.TypeClickHouse, DSN: config.NewSecret(dsn), MaxConnections: 1, Timeout: 30 * time.Second})
		if got := read(t, s, "SELECT currentDatabase(), dummy FROM one"); len(got) != 1 || got[0] != "system|0" {
			t.Errorf("%v", got)
		}
	}

}
