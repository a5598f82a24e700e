package sources_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	chproto "github.com/ClickHouse/ch-go/proto"

	"sql2metrics/sources"
)

// bomb is a block of one column, as a server or what answers in its place may
// send it: few bytes of it make a cell, a column or a type.
func bomb(rows int, typ string, data ...[]byte) []byte {
	var b chproto.Buffer
	b.PutUVarInt(1)
	b.PutUVarInt(uint64(rows))
	b.PutString("v")
	b.PutString(typ)
	return append(b.Buf, bytes.Join(data, nil)...)
}

func numbers(n ...uint64) (b []byte) {
	for _, n := range n {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// A block takes no more memory than max_result_bytes lets it, whatever it is
// made of.
func TestClickHouseBlockTakesLittleMemory(t *testing.T) {
	const cells = 20_000_000
	long := strings.Repeat("x", 50_000)
	manyColumns := func(n int) []byte {
		var b chproto.Buffer
		b.PutUVarInt(uint64(n))
		b.PutUVarInt(0)
		for range n {
			b.PutString("")
			b.PutString("Int8")
		}
		return b.Buf
	}
	zeroes := make([]byte, cells)
	for name, test := range map[string]struct {
		block []byte
		want  string // part of the error; "": none
	}{
		"texts":           {bomb(cells, "String", zeroes), "max_result_bytes"},
		"numbers":         {bomb(cells, "UInt8", zeroes), "max_result_bytes"},
		"keys":            {bomb(cells, "LowCardinality(String)", numbers(1, 1<<9, cells), zeroes), "max_result_bytes"},
		"array":           {bomb(1, "Array(String)", numbers(cells), zeroes), "max_result_bytes"},
		"arrays":          {bomb(cells/8, "Array(String)", zeroes), "max_result_bytes"},
		"variant":         {bomb(cells, "Variant(String, UInt64)", numbers(0), bytes.Repeat([]byte{255}, cells)), "max_result_bytes"},
		"columns":         {manyColumns(3_000_000), "columns"},
		"columns allowed": {manyColumns(9_000), ""},
		"tuple":           {bomb(0, "Tuple("+strings.Repeat("Int8,", 200_000)+"Int8)"), "max_result_bytes"},
		"enum":            {bomb(0, "Enum16("+strings.Repeat("''=1,", 200_000)+"''=1)"), "max_result_bytes"},
		"long type":       {bomb(0, "Enum8('"+strings.Repeat(long, 100)+"'=1)"), "length of a text"},
		"keys in array": {bomb(1, "Array(LowCardinality(String))", numbers(1, 1_000_000, 1<<9, 1), []byte("\xd0\x86\x03"+long),
			numbers(1_000_000), zeroes[:1_000_000]), "max_result_bytes"},
		"names in array": {bomb(1, "Array(Enum8('"+long+"'=0))", numbers(1_000_000), zeroes[:1_000_000]), "max_result_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			allocated := wantLittleMemory(t)
			err := sources.ReadClickHouse(test.block, 1<<20, ignore)
			allocated()
			if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

// Columns that are long in one block each are not all held at their longest.
func TestClickHouseColumnsLongInTurns(t *testing.T) {
	const columns = 60
	var blocks chproto.Buffer
	for block := range columns {
		blocks.PutUVarInt(columns)
		blocks.PutUVarInt(1)
		for column := range columns {
			blocks.PutString("v")
			blocks.PutString("String")
			cell := ""
			if column == block {
				cell = strings.Repeat("x", 1_000_000)
			}
			blocks.PutString(cell)
		}
	}
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := held(), uint64(0)
	err := sources.ReadClickHouse(blocks.Buf, 1<<20, func(*sources.Row) error {
		most = max(most, held())
		return nil
	})
	if err != nil || most > before+24<<20 {
		t.Errorf("%d MiB are held at a time, %v", (most-before)>>20, err)
	}
}
