package sources

import (
	"bytes"
	"testing"
)

// FuzzPostgresBinary gives arbitrary bytes to the decoder of every type: a
// server that lies must not bring the agent down.
func FuzzPostgresBinary(f *testing.F) {
	f.Add(uint16(16), []byte{1})
	f.Add(uint16(1082), []byte{0, 0, 0x25, 0xcc})
	f.Add(uint16(1186), []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3})
	f.Add(uint16(1700), []byte{0, 2, 0, 1, 0x40, 0, 0, 2, 0x04, 0xd2, 0x16, 0x2e}) // -12345678.00
	f.Add(uint16(1700), []byte{0, 0, 0x80, 0, 0, 0, 0, 3})
	f.Add(uint16(3802), []byte("\x01{}"))
	f.Fuzz(func(t *testing.T, oid uint16, src []byte) {
		decode := binaryDecoder(uint32(oid))
		if decode == nil {
			return
		}
		before := bytes.Clone(src)
		kept := []byte("an earlier column's text")
		v, scratch, err := decode(src, kept)
		if !bytes.Equal(src, before) {
			t.Error("the driver's bytes are changed")
		}
		if !bytes.HasPrefix(scratch, kept) {
			t.Error("an earlier column's text is changed")
		}
		if err != nil {
			return
		}
		_, _ = v.Float()
		if label := v.AppendText(nil); oid == 1700 && len(label) == 0 {
			t.Error("a numeric without a digit")
		}
	})
}
