package sources

import (
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// chBlock is a part of a result: some rows of all its columns, each column in
// one piece. It is used again for all blocks of a result.
type chBlock struct {
	names   []string
	types   []string
	columns []chColumn
	rows    int
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
	if columns > chMaxBlock || rows > chMaxBlock {
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
	first := len(b.columns) == 0
	if !first && int(columns) != len(b.columns) {
		return chMalformed("number of columns")
	}
	for i := range int(columns) {
		if err := b.begin(r, i, first); err != nil {
			return err
		}
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			custom, err := r.bool()
			if err == nil && custom {
				err = fmt.Errorf("column %s comes in a form that cannot be read; send it through a function such as materialize", b.names[i])
			}
			if err != nil {
				return err
			}
		}
		if b.rows == 0 {
			continue
		}
		if err := b.columns[i].prefix(r); err != nil {
			return fmt.Errorf("read column %s: %w", b.names[i], err)
		}
		if err := b.columns[i].decode(r, b.rows); err != nil {
			return fmt.Errorf("read column %s: %w", b.names[i], err)
		}
	}
	return nil
}

// begin reads name and type of column i. In all blocks of a result they are
// those of the first.
func (b *chBlock) begin(r *chReader, i int, first bool) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	if first {
		b.names = append(b.names, string(text))
	} else if b.names[i] != string(text) {
		return chMalformed("name of a column")
	}
	if text, err = r.text(); err != nil {
		return err
	}
	switch {
	case first:
		column, err := chColumnOf(string(text))
		if err != nil {
			return fmt.Errorf("column %s: %w", b.names[i], err)
		}
		b.types = append(b.types, string(text))
		b.columns = append(b.columns, column)
	case b.types[i] != string(text):
		return chMalformed("type of a column")
	}
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

// chRows hands the rows of blocks on. Its row is used again.
type chRows struct {
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
		if err := fn(&r.row); err != nil {
			return err
		}
	}
	return nil
}

// chReadAll hands on the rows of all blocks that r has, which come as in a file.
func chReadAll(r *chReader, each func(*Row) error) error {
	var (
		block chBlock
		rows  chRows
	)
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
