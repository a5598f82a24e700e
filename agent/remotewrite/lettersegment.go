package remotewrite

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sql2metrics/wal"
)

// The dead letter on disk is deadletter/ENDPOINT/NUMBER.letters. The numbers
// go up across all endpoints, so their order is that of age. A segment is the
// eight bytes of letterMagic and then letters, one behind the other, each in a
// frame, little-endian:
//
//	 0  uint32  "s2mL"
//	 4  uint32  CRC-32C of all behind the mark
//	 8  uint32  mark: "gone", or anything else
//	12  uint32  length of the JSON
//	16  uint32  length of the body
//	20  uint32  CRC-32C of the endpoint's name and the body
//	24  uint64  window: sequence number of its last frame
//	32          the Letter as JSON, then the body of the request as it was sent
//
// Only the agent makes, extends and deletes segments, and it writes to the end
// of one only. A letter is removed by its mark, which whoever wants to may
// write beside the agent: nobody else writes there, and only one value of it
// means something.
//
// The end of a segment may be torn: a process died there, or is writing. What
// is no whole letter there is cut off before the next one is written.
const (
	letterMagic       = "s2mdlet1"
	letterFrameMagic  = "s2mL"
	letterFrameHeader = 32
	letterMarkOffset  = 8
	letterGone        = "gone"

	letterFileSuffix = ".letters"
	letterFileDigits = 20
)

// The names of the file operations of the dead letter.
const (
	opListLetters   = "list dead letters"
	opReadLetters   = "read dead letters"
	opMarkLetter    = "mark dead letter"
	opLetterFolder  = "make folder of dead letters"
	opWriteLetter   = "write dead letter"
	opCutLetter     = "cut torn dead letter"
	opSyncLetters   = "sync dead letters"
	opRemoveLetters = "remove dead letters"
	opMoveLetters   = "hand dead letters over"
)

// errLetterDamaged says that there is no whole letter at a place.
var errLetterDamaged = errors.New("damaged dead letter")

// letterChecksum goes on with the CRC-32C sum over b.
func letterChecksum(sum uint32, b []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), b)
}

// letterFrame is a letter as it is in a segment. It shares memory with what it
// was decoded from.
type letterFrame struct {
	offset     int64 // in the segment
	size       int64
	sum        uint32
	removed    bool
	hash       uint32
	window     uint64
	head, body []byte
}

// encodeLetter returns the frame of a letter.
func encodeLetter(l *Letter, body []byte) (b []byte, hash uint32, err error) {
	head, err := json.Marshal(l)
	if err != nil {
		return nil, 0, fmt.Errorf("encode dead letter: %w", err)
	}
	hash = letterChecksum(letterChecksum(0, []byte(l.Endpoint)), body)
	b = make([]byte, letterFrameHeader, letterFrameHeader+len(head)+len(body))
	b = append(append(b, head...), body...)
	le := binary.LittleEndian
	copy(b, letterFrameMagic)
	le.PutUint32(b[12:], uint32(len(head)))
	le.PutUint32(b[16:], uint32(len(body)))
	le.PutUint32(b[20:], hash)
	le.PutUint64(b[24:], l.Window)
	le.PutUint32(b[4:], letterChecksum(0, b[letterMarkOffset+4:]))
	return b, hash, nil
}

// decodeLetterFrame reads the frame at the beginning of b.
func decodeLetterFrame(b []byte) (f letterFrame, err error) {
	if len(b) < letterFrameHeader || string(b[:4]) != letterFrameMagic {
		return f, errLetterDamaged
	}
	le := binary.LittleEndian
	head, body := uint64(le.Uint32(b[12:])), uint64(le.Uint32(b[16:]))
	size := letterFrameHeader + head + body
	if size > uint64(len(b)) {
		return f, errLetterDamaged
	}
	b = b[:size]
	f = letterFrame{
		size: int64(size), sum: le.Uint32(b[4:]), hash: le.Uint32(b[20:]), window: le.Uint64(b[24:]),
		removed: string(b[letterMarkOffset:letterMarkOffset+4]) == letterGone,
		head:    b[letterFrameHeader : letterFrameHeader+head], body: b[letterFrameHeader+head:],
	}
	if letterChecksum(0, b[letterMarkOffset+4:]) != f.sum {
		return f, errLetterDamaged
	}
	return f, nil
}

// letter decodes what a frame says of its letter.
func (f *letterFrame) letter() (Letter, error) {
	var l Letter
	if err := json.Unmarshal(f.head, &l); err != nil {
		return l, fmt.Errorf("%w: %w", errLetterDamaged, err)
	}
	l.Bytes, l.offset, l.sum = f.size, f.offset, f.sum
	l.ID = fmt.Sprintf("%s-%d-%08x", l.Appended.UTC().Format("20060102T150405"), f.window, f.hash)
	return l, nil
}

// scanLetters finds the whole letters of a segment, removed ones too, and
// where the last of them ends. Damage is what lies between two of them. The
// error says that b is no segment of this version; one that holds nothing yet
// is.
func scanLetters(b []byte) (frames []letterFrame, end int64, damage bool, err error) {
	switch {
	case len(bytes.Trim(b, "\x00")) == 0, len(b) < len(letterMagic) && strings.HasPrefix(letterMagic, string(b)):
		return nil, 0, false, nil
	case !bytes.HasPrefix(b, []byte(letterMagic)):
		return nil, 0, false, errors.New("not a segment of dead letters that this version can read")
	}
	end = int64(len(letterMagic))
	for off := len(letterMagic); ; {
		f, err := decodeLetterFrame(b[off:])
		if err != nil {
			next := bytes.Index(b[min(off+1, len(b)):], []byte(letterFrameMagic))
			if next < 0 {
				return frames, end, damage, nil
			}
			off += 1 + next
			continue
		}
		damage = damage || int64(off) != end
		f.offset = int64(off)
		frames = append(frames, f)
		off += int(f.size)
		end = int64(off)
	}
}

// letterFile is a segment in the folder of the dead letter.
type letterFile struct {
	folder string // of the endpoint
	number uint64
	size   int64
}

// path is where the segment is below the dead letter's folder.
func (f letterFile) path(root string) string {
	return filepath.Join(root, f.folder, fmt.Sprintf("%0*d%s", letterFileDigits, f.number, letterFileSuffix))
}

// listLetterFiles returns the segments of all endpoints, the oldest first.
// Files of other names are nobody's business here.
func listLetterFiles(disk wal.FileSystem, root string) ([]letterFile, error) {
	folders, err := disk.ReadDir(opListLetters, root)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var files []letterFile
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		entries, err := disk.ReadDir(opListLetters, filepath.Join(root, folder.Name()))
		if err := ignoreMissing(err); err != nil {
			return nil, err
		}
		for _, e := range entries {
			digits, isSegment := strings.CutSuffix(e.Name(), letterFileSuffix)
			number, err := strconv.ParseUint(digits, 10, 64)
			if !isSegment || err != nil || len(digits) != letterFileDigits || !e.Type().IsRegular() {
				continue
			}
			info, err := e.Info()
			if err := ignoreMissing(err); err != nil {
				return nil, err
			}
			if info != nil {
				files = append(files, letterFile{folder.Name(), number, info.Size()})
			}
		}
	}
	slices.SortStableFunc(files, func(a, b letterFile) int { return cmp.Compare(a.number, b.number) })
	return files, nil
}

// readLetterFile returns what is in a segment.
func readLetterFile(disk wal.FileSystem, root string, f letterFile) ([]byte, error) {
	file, err := disk.OpenFile(opReadLetters, f.path(root), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b := make([]byte, f.size)
	n, err := file.ReadAt(opReadLetters, b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], errors.Join(err, file.Close())
}

// onDisk is what a file of so many bytes takes of most disks. Counted so,
// small segments cannot take many times the bound.
func onDisk(bytes int64) int64 {
	const block = 4096
	return (bytes + block - 1) / block * block
}

// ignoreMissing forgives that a file is gone.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
