package sources

// chColumn is one column of a block as it came. A cell is decoded when it is
// asked for.
type chColumn interface {
	// prefix reads what stands before the column's data: the prefixes of all
	// its parts come before the data of the first.
	prefix(r *chReader) error
	// decode reads rows cells in place of those it held. The column keeps its
	// buffers from block to block.
	decode(r *chReader, rows int) error
	// value returns cell i. What has to be spelled out is appended to scratch,
	// which is returned.
	value(i int, scratch []byte) (Value, []byte)
	// appendNested appends cell i as ClickHouse shows it within an array.
	appendNested(dst []byte, i int) []byte
}

// chNumber is the size of a number by which a cell is found.
const chNumber = 4

// noPrefix is what columns without a prefix embed.
type noPrefix struct{}

func (noPrefix) prefix(*chReader) error { return nil }

// chFixed is a column whose cells are all of one width.
type chFixed struct {
	noPrefix
	width  int
	cell   chCell
	quoted bool // within an array
	data   []byte
}

func (c *chFixed) decode(r *chReader, rows int) (err error) {
	c.data, err = r.appendBytes(c.data[:0], rows*c.width)
	return err
}

func (c *chFixed) value(i int, scratch []byte) (Value, []byte) {
	return c.cell(c.data[i*c.width:(i+1)*c.width], scratch)
}

func (c *chFixed) appendNested(dst []byte, i int) []byte {
	// A text is spelled out behind dst and then appended to it where it stands
	// already, unless it has to be quoted.
	start := len(dst)
	v, spelled := c.value(i, dst)
	switch {
	case v.IsNull():
		return append(dst, "NULL"...)
	case !c.quoted && v.Kind() == Text:
		return spelled
	case !c.quoted:
		return v.AppendText(dst)
	case v.Kind() == Text && len(spelled) > start:
		dst = append(spelled, 0, 0)
		copy(dst[start+1:], dst[start:])
		dst[start], dst[len(dst)-1] = '\'', '\''
		return dst
	case v.Kind() == Text:
		return chAppendQuoted(dst, v.bytes())
	}
	return append(v.AppendText(append(dst, '\'')), '\'')
}

// chString is a column of texts.
type chString struct {
	noPrefix
	data []byte
	ends []uint32
}

func (c *chString) decode(r *chReader, rows int) error {
	if err := r.enough(rows); err != nil {
		return err
	}
	if err := r.charge(rows * chNumber); err != nil {
		return err
	}
	c.data, c.ends = c.data[:0], c.ends[:0]
	for i := range rows {
		n, err := r.uvarint()
		if err != nil {
			return err
		}
		if n > chMaxBlock {
			return chMalformed("length of a text")
		}
		if c.data, err = r.appendText(c.data, int(n)); err != nil {
			return err
		}
		if len(c.ends) == cap(c.ends) {
			c.ends = chGrow(c.ends, rows-i, 0)
		}
		c.ends = append(c.ends, uint32(len(c.data)))
	}
	return nil
}

func (c *chString) cell(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = c.ends[i-1]
	}
	return c.data[start:c.ends[i]]
}

func (c *chString) value(i int, scratch []byte) (Value, []byte) {
	return TextValue(c.cell(i)), scratch
}

func (c *chString) appendNested(dst []byte, i int) []byte { return chAppendQuoted(dst, c.cell(i)) }

func chAppendQuoted(dst, text []byte) []byte {
	dst = append(dst, '\'')
	for _, b := range text {
		if b == '\'' || b == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
	}
	return append(dst, '\'')
}

// chJSON is a column of type JSON that the server was asked to send as text.
type chJSON struct{ chString }

func (c *chJSON) prefix(r *chReader) error {
	const asText = 1
	version, err := r.uint64()
	if err == nil && version != asText {
		err = &chTypeError{"JSON"}
	}
	return err
}

// chNullable has a byte per cell that tells whether it is NULL.
type chNullable struct {
	of    chColumn
	nulls []byte
}

func (c *chNullable) prefix(r *chReader) error { return c.of.prefix(r) }

func (c *chNullable) decode(r *chReader, rows int) (err error) {
	if c.nulls, err = r.appendBytes(c.nulls[:0], rows); err != nil {
		return err
	}
	return c.of.decode(r, rows)
}

func (c *chNullable) value(i int, scratch []byte) (Value, []byte) {
	if c.nulls[i] != 0 {
		return Value{}, scratch
	}
	return c.of.value(i, scratch)
}

func (c *chNullable) appendNested(dst []byte, i int) []byte {
	if c.nulls[i] != 0 {
		return append(dst, "NULL"...)
	}
	return c.of.appendNested(dst, i)
}

// chLowCardinality has a number per cell that stands for a value of its
// dictionary. If it is nullable, number 0 stands for NULL.
type chLowCardinality struct {
	dictionary chColumn
	nullable   bool
	numbers    []byte
	width      int // bytes of a number
}

func (c *chLowCardinality) prefix(r *chReader) error {
	const sharedDictionaries = 1
	version, err := r.uint64()
	if err == nil && version != sharedDictionaries {
		return chMalformed("version of LowCardinality")
	}
	if err == nil {
		err = c.dictionary.prefix(r)
	}
	return err
}

func (c *chLowCardinality) decode(r *chReader, rows int) error {
	c.numbers = c.numbers[:0]
	if rows == 0 {
		return nil
	}
	// The dictionary of a block is whole: the flag for keys that are added to
	// those of a file is set and no other.
	const withKeys = 1 << 9
	flags, err := r.uint64()
	if err != nil {
		return err
	}
	if flags&0xff > 3 || flags&withKeys == 0 {
		return chMalformed("flags of LowCardinality")
	}
	c.width = 1 << (flags & 0xff)
	keys, err := r.count()
	if err != nil {
		return err
	}
	if err := c.dictionary.decode(r, keys); err != nil {
		return err
	}
	count, err := r.count()
	if err != nil {
		return err
	}
	if count != rows {
		return chMalformed("rows of LowCardinality")
	}
	if c.numbers, err = r.appendBytes(c.numbers, rows*c.width); err != nil {
		return err
	}
	for i := range rows {
		if c.number(i) >= uint64(keys) {
			return chMalformed("number of LowCardinality")
		}
	}
	return nil
}

func (c *chLowCardinality) number(i int) uint64 {
	return chUnsigned(c.numbers[i*c.width : (i+1)*c.width])
}

func (c *chLowCardinality) value(i int, scratch []byte) (Value, []byte) {
	n := c.number(i)
	if c.nullable && n == 0 {
		return Value{}, scratch
	}
	return c.dictionary.value(int(n), scratch)
}

func (c *chLowCardinality) appendNested(dst []byte, i int) []byte {
	n := c.number(i)
	if c.nullable && n == 0 {
		return append(dst, "NULL"...)
	}
	return c.dictionary.appendNested(dst, int(n))
}

// chArray is a column of arrays, or of maps, which are arrays of pairs. The
// elements of all its cells stand in one column.
type chArray struct {
	of         chColumn
	begin, end byte
	offsets    []uint32 // where each cell ends in of
	most       int      // bytes that may be spelled out, see [chRows]
}

func (c *chArray) prefix(r *chReader) error { return c.of.prefix(r) }

func (c *chArray) decode(r *chReader, rows int) (err error) {
	c.most = r.row
	if c.offsets, err = chOffsets(r, c.offsets, rows); err != nil {
		return err
	}
	elements := 0
	if rows > 0 {
		elements = int(c.offsets[rows-1])
	}
	return c.of.decode(r, elements)
}

func (c *chArray) value(i int, scratch []byte) (Value, []byte) {
	return chNestedText(c, i, scratch)
}

func (c *chArray) appendNested(dst []byte, i int) []byte {
	element := uint32(0)
	if i > 0 {
		element = c.offsets[i-1]
	}
	dst = append(dst, c.begin)
	for first := element; element < c.offsets[i] && len(dst) <= c.most; element++ {
		if element > first {
			dst = append(dst, ',')
		}
		dst = c.of.appendNested(dst, int(element))
	}
	return append(dst, c.end)
}

// chTuple is a column of tuples, or of the pairs of a map, which have no
// brackets.
type chTuple struct {
	of                  []chColumn
	begin, between, end byte
	most                int // bytes that may be spelled out, see [chRows]
}

func (c *chTuple) prefix(r *chReader) error {
	for _, of := range c.of {
		if err := of.prefix(r); err != nil {
			return err
		}
	}
	return nil
}

func (c *chTuple) decode(r *chReader, rows int) error {
	c.most = r.row
	for _, of := range c.of {
		if err := of.decode(r, rows); err != nil {
			return err
		}
	}
	return nil
}

func (c *chTuple) value(i int, scratch []byte) (Value, []byte) {
	return chNestedText(c, i, scratch)
}

func (c *chTuple) appendNested(dst []byte, i int) []byte {
	if c.begin != 0 {
		dst = append(dst, c.begin)
	}
	for n, of := range c.of {
		if len(dst) > c.most {
			break
		}
		if n > 0 {
			dst = append(dst, c.between)
		}
		dst = of.appendNested(dst, i)
	}
	if c.end != 0 {
		dst = append(dst, c.end)
	}
	return dst
}

// chVariant has a byte per cell that tells which of its types the cell has.
// The cells of each type stand in a column of their own.
type chVariant struct {
	of     []chColumn
	which  []byte
	number []uint32 // of the cell within its column
}

// chVariantNull stands for a cell that has none of the types.
const chVariantNull = 255

func (c *chVariant) prefix(r *chReader) error {
	const bytePerCell = 0
	mode, err := r.uint64()
	if err == nil && mode != bytePerCell {
		return chMalformed("mode of Variant")
	}
	for _, of := range c.of {
		if err != nil {
			break
		}
		err = of.prefix(r)
	}
	return err
}

func (c *chVariant) decode(r *chReader, rows int) (err error) {
	if c.which, err = r.appendBytes(c.which[:0], rows); err != nil {
		return err
	}
	if err := r.charge(rows * chNumber); err != nil {
		return err
	}
	c.number = c.number[:0]
	counts := make([]uint32, len(c.of))
	for i, which := range c.which {
		if len(c.number) == cap(c.number) {
			c.number = chGrow(c.number, rows-i, 0)
		}
		switch {
		case which == chVariantNull:
			c.number = append(c.number, 0)
		case int(which) >= len(c.of):
			return chMalformed("type of Variant")
		default:
			c.number = append(c.number, counts[which])
			counts[which]++
		}
	}
	for i, of := range c.of {
		if err := of.decode(r, int(counts[i])); err != nil {
			return err
		}
	}
	return nil
}

func (c *chVariant) value(i int, scratch []byte) (Value, []byte) {
	if c.which[i] == chVariantNull {
		return Value{}, scratch
	}
	return c.of[c.which[i]].value(int(c.number[i]), scratch)
}

func (c *chVariant) appendNested(dst []byte, i int) []byte {
	if c.which[i] == chVariantNull {
		return append(dst, "NULL"...)
	}
	return c.of[c.which[i]].appendNested(dst, int(c.number[i]))
}

// chNestedText makes a Text of a cell that is made of others.
func chNestedText(c chColumn, i int, scratch []byte) (Value, []byte) {
	start := len(scratch)
	scratch = c.appendNested(scratch, i)
	return TextValue(scratch[start:]), scratch
}
