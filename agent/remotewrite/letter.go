package remotewrite

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// A letter's file is this header of fixed size, little-endian, then the Letter
// as JSON, then the body of the request as it was sent.
//
//	0  8 bytes  "s2mdead1"
//	8  uint32   length of the JSON
//	12 uint32   length of the body
//	16 uint32   CRC-32C of all that follows
const (
	letterMagic      = "s2mdead1"
	letterHeaderSize = 20
)

// errLetterDamaged says that a file is no whole letter.
var errLetterDamaged = errors.New("damaged dead letter")

// Letter describes a request in the dead letter.
type Letter struct {
	Endpoint   string          `json:"endpoint"` // whose it is; in the file, which one wrote it
	Time       time.Time       `json:"time"`     // when it was given up
	Reason     Reason          `json:"reason"`
	Status     int             `json:"status"` // of the last answer; 0: there was none
	Words      string          `json:"words"`  // of the receiver, or why there was no answer
	Protocol   config.Protocol `json:"protocol"`
	Series     []string        `json:"series"` // the first few in it
	Samples    uint64          `json:"samples"`
	Histograms uint64          `json:"histograms"`
	Exemplars  uint64          `json:"exemplars"`

	ID    string `json:"-"` // names it among those of its endpoint
	Bytes int64  `json:"-"` // of its file

	path string
}

func (l *Letter) encode(body []byte) ([]byte, error) {
	head, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode dead letter: %w", err)
	}
	b := make([]byte, letterHeaderSize, letterHeaderSize+len(head)+len(body))
	b = append(append(b, head...), body...)
	copy(b, letterMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(head)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[letterHeaderSize:], crc32.MakeTable(crc32.Castagnoli)))
	return b, nil
}

func decodeLetter(b []byte) (l Letter, body []byte, err error) {
	if len(b) < letterHeaderSize || string(b[:8]) != letterMagic {
		return l, nil, errLetterDamaged
	}
	head, size := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	if uint64(len(b)) != letterHeaderSize+uint64(head)+uint64(size) ||
		crc32.Checksum(b[letterHeaderSize:], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[16:]) {
		return l, nil, errLetterDamaged
	}
	rest := b[letterHeaderSize:]
	if err := json.Unmarshal(rest[:head], &l); err != nil {
		return l, nil, fmt.Errorf("%w: %w", errLetterDamaged, err)
	}
	return l, rest[head:], nil
}

// Letters lists the dead letters in a folder, oldest first, of one endpoint or,
// with an empty name, of all. It may be called beside a running agent. Files
// that are no whole letters are left out, and named in the error beside the
// list.
func Letters(path, endpoint string) ([]Letter, error) {
	files, err := listLetters(path)
	if err != nil {
		return nil, err
	}
	var letters []Letter
	var errs []error
	for _, f := range files {
		l, _, err := readLetter(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case endpoint == "" || l.Endpoint == endpoint:
			letters = append(letters, l)
		}
	}
	return letters, errors.Join(errs...)
}

func readLetter(path string) (Letter, []byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Letter{}, nil, fmt.Errorf("read dead letter: %w", err)
	}
	l, body, err := decodeLetter(b)
	if err != nil {
		return Letter{}, nil, fmt.Errorf("%s: %w; it cannot be sent again, delete it", path, err)
	}
	l.Endpoint = endpointOf(path, l.Endpoint)
	l.path, l.Bytes, l.ID = path, int64(len(b)), letterFile{path: path}.id()
	return l, body, nil
}

// Resender posts letters to the endpoint they were refused by, as it is
// configured now. Close it.
type Resender struct{ client *client }

// NewResender prepares to send letters to e.
func NewResender(e config.RemoteWrite, userAgent string) (*Resender, error) {
	c, err := newClient(e, userAgent)
	if err != nil {
		return nil, err
	}
	return &Resender{c}, nil
}

// Close closes idle connections.
func (r *Resender) Close() { r.client.http.CloseIdleConnections() }

// Resend posts the bytes of a letter once, and removes its file if the
// receiver accepts them. It returns the answer as a log shows it. It may be
// called beside a running agent.
func (r *Resender) Resend(ctx context.Context, l Letter) (answer string, err error) {
	_, body, err := readLetter(l.path)
	if err != nil {
		return "", err
	}
	a := r.client.post(ctx, l.Protocol, body)
	if a.judge(l.Protocol, false, true) != accepted {
		return "", fmt.Errorf("the receiver did not take it: %s", a.String())
	}
	counts := wal.Totals{Samples: l.Samples, Histograms: l.Histograms, Exemplars: l.Exemplars}
	if l.Protocol == config.ProtocolV2 && a.counted && !a.claims(counts) {
		return "", fmt.Errorf("the receiver took a part of it: %s, %d of %d samples written", a.String(), a.written.Samples, l.Samples)
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("it was taken, but is still there: %w", err)
	}
	return a.String(), nil
}

// DeadLetterFolder is where the dead letters are below storage.path.
func DeadLetterFolder(storagePath string) string { return filepath.Join(storagePath, "deadletter") }
