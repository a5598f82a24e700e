package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	cursorMagic      = 0x7273756d // on disk "musr"
	cursorSlotSize   = 4096
	cursorFileSize   = 2 * cursorSlotSize
	cursorHeaderSize = 116

	// MaxCursorState is how many bytes of state a cursor takes.
	MaxCursorState = cursorSlotSize - cursorHeaderSize
)

// Start says where a cursor that is new begins.
type Start int

// Where a new cursor begins.
const (
	StartEnd    Start = iota // after the newest frame there is when the cursor is made
	StartOldest              // before the oldest
)

// Cursor is an endpoint's persisted place in the log: everything up to its
// position has been dealt with, and the log keeps everything after it while
// MaxBytes allows. It belongs to one goroutine; the log syncs it beside.
type Cursor struct {
	name      string
	path      string
	log       *Log
	recovered bool
	// safe is the sequence number of the position that has been synced:
	// what lies before it is needed no more, whatever happens.
	safe atomic.Uint64

	mu     sync.Mutex // the file's writer: held while it is written and synced
	file   File
	slot   int  // where the next save goes: the other one is synced
	unmade bool // there is no file yet, as the disk was full
	dirty  bool // slot has been written and not synced
	failed bool // a write or sync of slot failed: what it has is not known
	record cursorRecord
	buf    []byte
}

// cursorRecord is the content of a slot.
type cursorRecord struct {
	generation uint64
	id         logID
	position   Position
	synced     logEnd // of the log when it was saved
	state      []byte
}

// logEnd is how far the log was known to be on the disk. What a start finds
// missing before it was there, and has been damaged.
type logEnd struct {
	seq    uint64
	totals Totals
}

// Cursor opens the cursor of that name, which is its endpoint's, and makes it
// if there is none; on a full disk it is kept in memory, and made when it can
// be. One whose file is damaged, or that belongs to another log, begins at the
// oldest frame. A cursor holds back the removal of segments
// from now on, so the agent opens all of them before it starts Run. A name
// can be open once.
func (l *Log) Cursor(name string, start Start) (*Cursor, error) {
	path, err := cursorPath(l.o.Path, name)
	if err != nil {
		return nil, err
	}
	c := &Cursor{name: name, path: path, log: l, buf: make([]byte, cursorSlotSize)}
	if err := l.cursors.add(c); err != nil {
		return nil, err
	}
	// From here on nothing is removed that the cursor may begin with.
	l.mu.Lock()
	id, end, oldest, closed := l.id, l.end, l.oldest(), l.closed
	l.mu.Unlock()
	if closed {
		err = errClosed
	} else {
		c.mu.Lock()
		defer c.mu.Unlock()
		err = c.open(id, start, end, oldest)
	}
	if err != nil {
		l.cursors.remove(c)
		return nil, err
	}
	return c, nil
}

func (c *Cursor) open(id logID, start Start, end, oldest Position) (err error) {
	l := c.log
	if c.file, err = l.fs.OpenFile(opOpenCursor, c.path, os.O_RDWR, 0); err == nil {
		c.record, c.slot, err = readCursor(c.file)
		if err == nil && c.record.id == id && c.record.position.Seq <= end.Seq {
			if err := c.settle(l.o.Sync != SyncNever); err != nil {
				l.log.Warn("cursor cannot be synced; the next sync tries again", "cursor", c.name, "err", err)
			}
			return nil
		}
		c.recovered = err != nil || c.record.id == id
		c.record = cursorRecord{generation: c.record.generation, id: id, position: oldest}
		why := err
		if why == nil {
			why = errors.New("it belongs to another log or to a later state of this one")
		}
		l.log.Warn("cursor begins again at the oldest frame", "cursor", c.name, "seq", oldest.Seq, "err", why)
		if err := c.save(); err != nil {
			l.log.Warn("cursor cannot be saved; the next sync tries again", "cursor", c.name, "err", err)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open cursor %q: %w", c.name, err)
	}
	c.record = cursorRecord{id: id, position: end}
	if start == StartOldest {
		c.record.position = oldest
	}
	c.unmade = true
	if err := c.make(); err != nil {
		l.log.Warn("cursor begins in memory until its file can be made", "cursor", c.name, "seq", c.record.position.Seq, "err", err)
	}
	return nil
}

// make makes the file of a new cursor with its first save, synced, or leaves
// none: one made in part would tell the next start that a place was lost.
func (c *Cursor) make() error {
	l, part := c.log, c.path+newSuffix
	file, err := l.makeFile(opMakeCursor, part, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("make cursor %q: %w", c.name, err)
	}
	c.file, c.slot, c.unmade = file, 1, false
	// Both slots have their blocks from now on: a full disk does not stop a save.
	if _, err = file.WriteAt(opMakeCursor, make([]byte, cursorFileSize), 0); err == nil {
		err = c.save()
	}
	if err == nil {
		err = c.syncSlot(l.o.Sync != SyncNever)
	}
	if err == nil {
		err = l.fs.Rename(opMakeCursor, part, c.path)
	}
	if err != nil {
		c.file, c.unmade, c.dirty, c.failed = nil, true, false, false
		c.safe.Store(0)
		return errors.Join(fmt.Errorf("make cursor %q: %w", c.name, err), file.Close(), l.fs.Remove(opMakeCursor, part))
	}
	l.cursors.made()
	l.mu.Lock()
	l.bytes += cursorFileSize
	l.publish()
	l.mu.Unlock()
	return nil
}

// settle makes what has been read safe before anything is written over: the
// process that wrote it may have been killed before it was synced, or have
// been told that it could not be, after which only a new write counts.
func (c *Cursor) settle(durable bool) error {
	c.dirty = true
	if err := c.syncSlot(durable); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	return c.syncSlot(durable)
}

// Position returns the position as last saved.
func (c *Cursor) Position() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.position
}

// State returns a copy of the bytes saved with the position; nil when there are none.
func (c *Cursor) State() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.record.state)
}

// Recovered tells that the cursor's file was there and both its slots were
// lost, or that it is ahead of a log whose end was lost: it begins at the
// oldest frame, and whatever follows may have been delivered before.
func (c *Cursor) Recovered() bool { return c.recovered }

// Save persists a position that a Reader gave out, and at most MaxCursorState
// bytes that belong to it. The two are kept together or not at all. They
// survive the process when Save returns, and power loss after the log's next
// sync. After an error the cursor is as last saved; until the next sync, a
// process that is killed may leave it as it was to be saved.
func (c *Cursor) Save(p Position, state []byte) error {
	if len(state) > MaxCursorState {
		return fmt.Errorf("save cursor %q: state of %d bytes is over the limit of %d", c.name, len(state), MaxCursorState)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil && !c.unmade {
		return fmt.Errorf("save cursor %q: %w", c.name, os.ErrClosed)
	}
	before, kept := c.record.position, c.record.state
	c.record.position, c.record.state = p, state
	err := c.save()
	if err != nil {
		c.record.position, c.record.state = before, kept
		return err
	}
	c.record.state = append(kept[:0], state...)
	return nil
}

// save writes the record to the slot whose turn it is.
func (c *Cursor) save() error {
	if c.unmade {
		return c.make()
	}
	c.record.generation++
	if _, _, synced := c.log.published.readable(); synced.Seq > c.record.synced.seq {
		c.record.synced = logEnd{synced.Seq, synced.Totals}
	}
	encodeCursor(c.buf, c.record)
	if _, err := c.file.WriteAt(opSaveCursor, c.buf, int64(c.slot)*cursorSlotSize); err != nil {
		c.failed = true
		return fmt.Errorf("save cursor %q: %w", c.name, err)
	}
	c.dirty, c.failed = true, false
	return nil
}

// Sync makes the last save survive power loss at once, without waiting for the
// log's next sync. Under [SyncNever] it does not: then nothing does.
func (c *Cursor) Sync() error { return c.sync(c.log.o.Sync != SyncNever) }

// sync makes the last save safe, after which the other slot may be overwritten.
func (c *Cursor) sync(durable bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.syncSlot(durable)
}

// syncSlot is sync for who has c.mu.
func (c *Cursor) syncSlot(durable bool) error {
	if c.unmade {
		return c.make()
	}
	if !c.dirty && !c.failed || c.file == nil {
		return nil
	}
	if c.failed {
		if err := c.save(); err != nil {
			return err
		}
	}
	if durable {
		if err := c.file.Sync(opSyncCursor); err != nil {
			c.failed = true
			return fmt.Errorf("sync cursor %q: %w", c.name, err)
		}
	}
	c.dirty = false
	c.slot = 1 - c.slot
	c.safe.Store(c.record.position.Seq)
	return nil
}

// noteEnd saves the cursor once more, if the log has grown since it was.
func (c *Cursor) noteEnd() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, synced := c.log.published.readable(); c.file == nil || synced.Seq <= c.record.synced.seq {
		return nil
	}
	return c.save()
}

// Close syncs and closes the cursor's file; the cursor holds segments back no
// longer. It is for an endpoint that is gone: at shutdown, Log.Close closes
// the cursors, so that no sync between the first and the last of them removes
// what one still needs.
func (c *Cursor) Close() error {
	err := c.Sync()
	c.log.cursors.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unmade = false
	if c.file == nil {
		return err
	}
	if cerr := c.file.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close cursor %q: %w", c.name, cerr)
	}
	c.file = nil
	return err
}

// encodeCursor fills a slot.
func encodeCursor(slot []byte, r cursorRecord) {
	le := binary.LittleEndian
	clear(slot)
	le.PutUint32(slot, cursorMagic)
	le.PutUint64(slot[8:], r.generation)
	copy(slot[16:], r.id[:])
	le.PutUint64(slot[32:], r.position.Seq)
	le.PutUint64(slot[40:], r.position.Segment)
	le.PutUint64(slot[48:], uint64(r.position.Offset))
	appendTotals(slot[56:56], r.position.Totals)
	le.PutUint64(slot[80:], r.synced.seq)
	appendTotals(slot[88:88], r.synced.totals)
	le.PutUint32(slot[112:], uint32(len(r.state)))
	copy(slot[cursorHeaderSize:], r.state)
	le.PutUint32(slot[4:], crc32.Checksum(slot[8:cursorHeaderSize+len(r.state)], castagnoli))
}

func decodeCursor(slot []byte) (cursorRecord, error) {
	le := binary.LittleEndian
	if len(slot) < cursorHeaderSize || le.Uint32(slot) != cursorMagic {
		return cursorRecord{}, errors.New("no cursor here")
	}
	n := le.Uint32(slot[112:])
	if n > MaxCursorState || int(n) > len(slot)-cursorHeaderSize {
		return cursorRecord{}, fmt.Errorf("cursor has an impossible state of %d bytes", n)
	}
	end := cursorHeaderSize + int(n)
	if crc32.Checksum(slot[8:end], castagnoli) != le.Uint32(slot[4:]) {
		return cursorRecord{}, errors.New("checksum of the cursor does not match")
	}
	return cursorRecord{
		generation: le.Uint64(slot[8:]),
		id:         logID(slot[16:32]),
		position: Position{
			Seq:     le.Uint64(slot[32:]),
			Segment: le.Uint64(slot[40:]),
			Offset:  int64(le.Uint64(slot[48:])),
			Totals:  decodeTotals(slot[56:]),
		},
		synced: logEnd{le.Uint64(slot[80:]), decodeTotals(slot[88:])},
		state:  slices.Clone(slot[cursorHeaderSize:end]),
	}, nil
}

// readCursor returns the newest record of a cursor file and its slot.
func readCursor(f File) (newest cursorRecord, slot int, err error) {
	b := make([]byte, cursorFileSize)
	n, err := f.ReadAt(opOpenCursor, b, 0)
	if err != nil && err != io.EOF {
		return cursorRecord{}, 0, fmt.Errorf("read cursor: %w", err)
	}
	b = b[:n]
	var errs []error
	for i := range 2 {
		r, err := decodeCursor(b[min(n, i*cursorSlotSize):min(n, (i+1)*cursorSlotSize)])
		if err != nil {
			errs = append(errs, err)
		} else if r.generation > newest.generation {
			newest, slot = r, i
		}
	}
	if len(errs) == 2 {
		return cursorRecord{}, 0, fmt.Errorf("both slots are lost: %w", errors.Join(errs...))
	}
	return newest, slot, nil
}
