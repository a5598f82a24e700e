package sources

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"
)

// answerOf is an answer with a body, as net/http hands it out.
func answerOf(body io.Reader, length int64, coding string) *http.Response {
	return &http.Response{
		Request: &http.Request{Method: http.MethodGet}, ContentLength: length,
		Header: http.Header{"Content-Encoding": {coding}}, Body: io.NopCloser(body),
	}
}

// FuzzHTTPBody: a body is read as gzip's own reader has it, or not at all, and
// never beyond the limit. The one before leaves no trace.
func FuzzHTTPBody(f *testing.F) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(make([]byte, 5000))
	_ = z.Close()
	f.Add([]byte("a 1\n"), "", uint16(3))
	f.Add([]byte("a 1\n"), "", uint16(4))
	f.Add(make([]byte, 20000), "", uint16(20000))
	f.Add(zipped.Bytes(), "gzip", uint16(5000))
	f.Add(zipped.Bytes(), "gzip", uint16(4999))
	f.Add(append(zipped.Bytes(), zipped.Bytes()...), "GZIP", uint16(60000))
	f.Add(zipped.Bytes()[:20], "gzip", uint16(5000))
	f.Add([]byte{}, "gzip", uint16(0))
	f.Add([]byte("x"), "br", uint16(10))
	f.Add(zipped.Bytes(), "X-Gzip", uint16(5000))
	f.Add([]byte("x"), "x-compress", uint16(10))
	f.Fuzz(func(t *testing.T, body []byte, coding string, limit uint16) {
		want, wantErr := body, error(nil)
		switch strings.ToLower(coding) {
		case "gzip", "x-gzip":
			var r *gzip.Reader
			if r, wantErr = gzip.NewReader(bytes.NewReader(body)); wantErr == nil {
				want, wantErr = io.ReadAll(r)
			}
		case "deflate", "br", "zstd", "compress", "x-compress":
			wantErr = errors.New("not asked for")
		}
		var b httpBody
		for _, length := range []int64{-1, int64(len(body))} {
			for _, from := range []io.Reader{bytes.NewReader(body), iotest.OneByteReader(bytes.NewReader(body)), iotest.DataErrReader(bytes.NewReader(body))} {
				err := b.read(answerOf(from, length, coding), int64(limit))
				var over *BodyLimitError
				switch {
				case len(body) == 0 && length == 0:
					if err != nil || len(b.take()) != 0 {
						t.Errorf("an empty body is an error: %v", err)
					}
				case errors.As(err, &over):
					if len(want) <= int(limit) && wantErr == nil {
						t.Errorf("%d bytes are over the limit of %d", len(want), limit)
					}
				case (err == nil) != (wantErr == nil):
					t.Errorf("got %v, want %v", err, wantErr)
				case err == nil && (len(want) > int(limit) || !bytes.Equal(b.take(), want)):
					t.Errorf("got %d bytes with a limit of %d, want %d", len(b.take()), limit, len(want))
				}
			}
		}
	})
}

// FuzzExcerpt: whatever an answer says, an error has one short printable line
// of it.
func FuzzExcerpt(f *testing.F) {
	for _, s := range []string{"", "no", " no\r\n\tyes ", "\x00\xff\u202e\u0085", strings.Repeat("é", 300), strings.Repeat("x", 199) + "é"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line := excerpt(text)
		if len(line) > maxSaid || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q gives %q", text, line)
		}
	})
}

// TestHTTPBodyAllocatesNothing: a body about as large as the last costs none.
func TestHTTPBodyAllocatesNothing(t *testing.T) {
	page := bytes.Repeat([]byte("a 1\n"), 100000)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(page)
	_ = z.Close()
	for name, c := range map[string]struct {
		body   []byte
		coding string
		length int64
	}{
		"sized":   {page, "", int64(len(page))},
		"chunked": {page, "", -1},
		"gzip":    {zipped.Bytes(), "gzip", int64(zipped.Len())},
	} {
		t.Run(name, func(t *testing.T) {
			var b httpBody
			from := bytes.NewReader(c.body)
			resp := answerOf(from, c.length, c.coding)
			read := func() {
				from.Reset(c.body)
				if err := b.read(resp, defaultBodyLimit); err != nil || len(b.take()) != len(page) {
					t.Fatalf("got %d bytes, %v", len(b.take()), err)
				}
			}
			read()
			if got := testing.AllocsPerRun(10, read); got > 1 {
				t.Errorf("read with %v allocations", got)
			}
		})
	}
}
