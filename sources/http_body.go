package sources

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
)

const (
	// defaultBodyLimit is body_size_limit where a source says nothing: some
	// 600,000 series.
	defaultBodyLimit = 64 << 20
	// keptBody is how large a buffer may be to wait for the next answer.
	keptBody = 4 << 20
	// firstBody is the size a buffer begins with when nothing tells better.
	firstBody = 4 << 10
	// maxBeginning is how much is read of an answer that is an error.
	maxBeginning = 4 << 10
	// maxSaid bounds, in bytes, what an error repeats of an answer.
	maxSaid = 200
)

// httpBody reads answers, one after the other, into a buffer that it keeps. The
// zero value is ready. It is for one goroutine.
type httpBody struct {
	buffer []byte
	gzip   gzip.Reader
	size   int // of the last answer: the next is likely about as large

	secrets *httpSecrets // of the request whose answer was read last
}

// take hands out what was read. It is valid until the next answer is read.
func (b *httpBody) take() []byte {
	body := b.buffer
	if cap(body) > keptBody {
		b.buffer = nil // whoever has it now is the last
	}
	return body
}

// open returns the body of resp uncompressed.
func (b *httpBody) open(resp *http.Response) (io.Reader, error) {
	switch coding := strings.ToLower(resp.Header.Get("Content-Encoding")); coding {
	case "gzip", "x-gzip": // are the same, says RFC 9110
		if err := b.gzip.Reset(resp.Body); err != nil {
			return nil, fmt.Errorf("read gzip: %w", err)
		}
		return &b.gzip, nil
	case "deflate", "br", "zstd", "compress", "x-compress":
		return nil, fmt.Errorf("the answer is compressed as %s, which was not asked for: have the server, or the proxy before it, send gzip or nothing", coding)
	}
	return resp.Body, nil
}

// read reads the whole body, which must not be longer than limit uncompressed.
func (b *httpBody) read(resp *http.Response, limit int64) error {
	b.buffer = b.buffer[:0]
	if resp.ContentLength == 0 || resp.Request.Method == http.MethodHead {
		return nil
	}
	from, err := b.open(resp)
	if err != nil {
		return err
	}
	expected := int64(b.size)
	if from == resp.Body && resp.ContentLength >= 0 {
		if expected = resp.ContentLength; expected > limit {
			return &BodyLimitError{limit}
		}
	}
	// One byte more than there is, so that the end is found without growing, and
	// one more than there may be shows that there is too much.
	most := int(min(limit, math.MaxInt-1)) + 1
	b.grow(min(max(int(expected)+1, firstBody), most))
	for {
		n, err := from.Read(b.buffer[len(b.buffer):cap(b.buffer)])
		b.buffer = b.buffer[:len(b.buffer)+n]
		switch {
		case int64(len(b.buffer)) > limit:
			b.buffer, b.size = nil, 0
			return &BodyLimitError{limit}
		case errors.Is(err, io.EOF):
			b.size = len(b.buffer)
			return nil
		case err != nil:
			return fmt.Errorf("read the answer after %d bytes: %w", len(b.buffer), err)
		case len(b.buffer) == cap(b.buffer):
			if next := 2 * len(b.buffer); 2*next <= most {
				b.grow(next)
			} else {
				b.grow(most) // the last step: what is thrown away on the way is less
			}
		}
	}
}

// grow makes room for n bytes in all.
func (b *httpBody) grow(n int) {
	if n > cap(b.buffer) {
		b.buffer = append(make([]byte, 0, n), b.buffer...)
	}
}

// beginning returns what an error may repeat of a body: one line, printable.
// Reading some more than that lets a connection be used again whose body ends
// there.
func (b *httpBody) beginning(resp *http.Response) string {
	from, err := b.open(resp)
	if err != nil {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(from, maxBeginning)) // words that cannot be read are no words
	return b.secrets.excerpt(text)
}

// excerpt returns the beginning of a text for an error: one line, printable, of
// at most [maxSaid] bytes.
func excerpt(text []byte) string {
	line := printable(string(text))
	if len(line) <= maxSaid {
		return line
	}
	return strings.ToValidUTF8(line[:maxSaid-len("…")], "") + "…"
}

// printable returns a text in one line that can be printed.
func printable(text string) string {
	line := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
	return strings.Join(strings.Fields(line), " ")
}

// BodyLimitError says that an answer is over body_size_limit, and was not read
// to its end.
type BodyLimitError struct{ limit int64 }

// Error implements error.
func (e *BodyLimitError) Error() string {
	return fmt.Sprintf("the answer is over the limit of %d bytes, uncompressed: ask for less, or raise body_size_limit of the source", e.limit)
}
