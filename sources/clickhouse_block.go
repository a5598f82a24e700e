package sources

import (
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// chBlock is a part of a result: some rows of all its columns, each column in
// one piece. It is used again for all blocks of a result, and for the results
// behind it.
type chBlock struct {
	names   []string
	types   []string
	columns []chColumn
	held    []int // bytes of memory that each column took when it took most
	rows    int
	begun   bool // names and types are those of the result under way
}

const (
	// chMaxColumns bounds the columns of a result.
	chMaxColumns = 10_000

	// chColumnSize is what a column takes in memory beside its cells, and
	// chTypeSize what each byte of its type's name can make it take: names of an
	// enum, columns of a tuple.
	chColumnSize, chTypeSize = 256, 64

	// chKept is how much memory a block keeps for the next result.
	chKept = 1 << 20
)

// end forgets the result under way. The names go with it, as those who had its
// rows may have kept them.
func (b *chBlock) end() {
	if b.took() > chKept {
		*b = chBlock{}
	}
	b.names, b.begun = nil, false
}

func (b *chBlock) took() (bytes int) {
	for _, held := range b.held {
		bytes += held
	}
	return bytes
}

// shrink frees what the columns hold when it is more than one block may: they
// may have been long in one block each.
func (b *chBlock) shrink(most int) error {
	if b.took() <= most {
		return nil
	}
	clear(b.held)
	for i, typ := range b.types {
		var err error
		if b.columns[i], err = chColumnOf(typ); err != nil {
			return err
		}
	}
	return nil
}

// decode reads the next block. revision is that of the protocol, 0 where
// blocks stand in a file or an answer of HTTP.
func (b *chBlock) decode(r *chReader, revision uint64) error {
	if revision > 0 {
		if err := skipBlockInfo(r); err != nil {
			return err
		}
	}
	columns, err := r.uvarint()
	if err != nil {
		return err
	}
	rows, err := r.uvarint()
	if err != nil {
		return err
	}
	if columns > chMaxColumns {
		return fmt.Errorf("the result has %d columns, more than the %d that are read; select fewer", columns, chMaxColumns)
	}
	if rows > chMaxBlock {
		return chMalformed("size")
	}
	b.rows = int(rows)
	if err := r.enough(b.rows); err != nil {
		return err
	}
	if columns == 0 {
		if rows != 0 {
			return chMalformed("rows without columns")
		}
		return nil
	}
	if b.begun && int(columns) != len(b.names) {
		return chMalformed("number of columns")
	}
	if err := b.shrink(r.most); err != nil {
		return err
	}
	for i := range int(columns) {
		before := r.memory
		if err := b.begin(r, i); err != nil {
			return err
		}
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			custom, err := r.bool()
			if err == nil && custom {
				err = fmt.Errorf("column %s comes in a form that cannot be read; send it through a function such as materialize", chLine(b.names[i]))
			}
			if err != nil {
				return err
			}
		}
		if b.rows == 0 {
			continue
		}
		if err := b.columns[i].prefix(r); err != nil {
			return fmt.Errorf("read column %s: %w", chLine(b.names[i]), err)
		}
		if err := b.columns[i].decode(r, b.rows); err != nil {
			return fmt.Errorf("read column %s: %w", chLine(b.names[i]), err)
		}
		b.held[i] = max(b.held[i], before-r.memory)
	}
	b.types, b.columns, b.held = b.types[:columns], b.columns[:columns], b.held[:columns]
	b.begun = true
	return nil
}

// begin reads name and type of column i. In all blocks of a result they are
// those of the first.
func (b *chBlock) begin(r *chReader, i int) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	if err := r.charge(chColumnSize + len(text)); err != nil {
		return err
	}
	if !b.begun {
		b.names = append(b.names, string(text))
	} else if b.names[i] != string(text) {
		return chMalformed("name of a column")
	}
	if text, err = r.text(); err != nil {
		return err
	}
	if err := r.charge(chTypeSize * len(text)); err != nil {
		return err
	}
	switch {
	case i < len(b.types) && b.types[i] == string(text):
		return nil
	case b.begun:
		return chMalformed("type of a column")
	}
	// From here on nothing is as in the result before.
	b.types, b.columns, b.held = b.types[:min(i, len(b.types))], b.columns[:min(i, len(b.columns))], b.held[:min(i, len(b.held))]
	column, err := chColumnOf(string(text))
	if err != nil {
		return fmt.Errorf("column %s: %w", chLine(b.names[i]), err)
	}
	b.types, b.columns, b.held = append(b.types, string(text)), append(b.columns, column), append(b.held, 0)
	return nil
}

// skipBlockInfo reads what only servers among themselves need: numbered
// fields, and 0 for their end.
func skipBlockInfo(r *chReader) error {
	for {
		field, err := r.uvarint()
		if err != nil {
			return err
		}
		switch field {
		case 0:
			return nil
		case 1: // is_overflows
			_, err = r.byte()
		case 2: // bucket_num
			_, err = r.bytes(4)
		default:
			return chMalformed("information on a block")
		}
		if err != nil {
			return err
		}
	}
}

// chRows hands the rows of blocks on. Its row is used again. What is spelled out
// for one may take most bytes: a byte in an array may stand for a long text.
// Columns that are made of others stop behind that.
type chRows struct {
	most    int
	row     Row
	scratch []byte
}

// each calls fn for the rows of b until one returns an error.
func (r *chRows) each(b *chBlock, fn func(*Row) error) error {
	if r.row.Columns == nil {
		r.row = Row{Columns: b.names, Values: make([]Value, len(b.columns))}
	}
	for i := range b.rows {
		r.scratch = r.scratch[:0]
		for n, column := range b.columns {
			r.row.Values[n], r.scratch = column.value(i, r.scratch)
		}
		if len(r.scratch) > r.most {
			return &limitError{int64(r.most)}
		}
		if err := fn(&r.row); err != nil {
			return err
		}
	}
	return nil
}

// chReadAll hands on the rows of all blocks that r has, which come as in a file.
func chReadAll(r *chReader, each func(*Row) error) error {
	var block chBlock
	rows := chRows{most: r.row}
	for !r.ended() {
		r.limit(chMaxBlock)
		if err := block.decode(r, 0); err != nil {
			return err
		}
		if err := rows.each(&block, each); err != nil {
			return err
		}
	}
	return nil
}
