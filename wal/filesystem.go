package wal

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FileSystem is every touch of the disk but the lock. It is a seam: each
// operation says by its name what it is for, so that a test can count the
// operations of one purpose, or make one of them fail. The names are
// constants of this package (opAppend and so on).
type FileSystem interface {
	MkdirAll(op, path string, perm fs.FileMode) error
	OpenFile(op, path string, flag int, perm fs.FileMode) (File, error)
	ReadDir(op, path string) ([]fs.DirEntry, error)
	Remove(op, path string) error
	// Rename puts a file in the place of another, which is replaced.
	Rename(op, from, to string) error
	// Free returns the bytes that the agent's user may still write to the file
	// system of path, and how many it has.
	Free(op, path string) (free, size int64, err error)
	// SyncDir makes the names in a folder safe against power loss.
	SyncDir(op, path string) error
}

// File is an open file. There is no file offset: each read and write names
// its place, so what a failed write leaves behind is overwritten by the next.
type File interface {
	// ReadAt is io.ReaderAt's.
	ReadAt(op string, p []byte, off int64) (int, error)
	// WriteAt is one pwrite(2) unless the kernel writes short, and io.WriterAt's otherwise.
	WriteAt(op string, p []byte, off int64) (int, error)
	// Sync makes the file's bytes and its length safe against power loss.
	Sync(op string) error
	Truncate(op string, size int64) error
	Close() error
}

// The names of the file operations.
const (
	opMakeFolder    = "make folder"
	opList          = "list folder"
	opRecover       = "recover"
	opCutTail       = "cut torn tail"
	opCreate        = "create segment"
	opAppend        = "append round"
	opSeal          = "seal segment"
	opCutWrite      = "cut failed write"
	opSyncSegment   = "sync segment"
	opSyncFolder    = "sync folder"
	opRewrite       = "write segment again"
	opSyncRewrite   = "sync segment written again"
	opRename        = "rename"
	opPlace         = "put segment in place"
	opQuarantine    = "keep damaged bytes"
	opRemoveSegment = "remove segment"
	opFree          = "ask for free space"
	opMeasure       = "measure folder"
	opRead          = "read segment"
	opOpenCursor    = "open cursor"
	opMakeCursor    = "make cursor"
	opSaveCursor    = "save cursor"
	opSyncCursor    = "sync cursor"
	opAdoptCursor   = "hand cursor over"

	opReadEndpoints   = "read endpoints"
	opSaveEndpoints   = "save endpoints"
	opSyncEndpoints   = "sync endpoints"
	opPlaceEndpoints  = "put endpoints in place"
	opForgetEndpoints = "forget endpoints"
)

// OperatingSystem returns the file system that is used unless [Options] name
// one, for one that wraps it.
func OperatingSystem() FileSystem { return osFileSystem{} }

// osFileSystem is the operating system's.
type osFileSystem struct{}

func (osFileSystem) MkdirAll(_, path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

func (osFileSystem) OpenFile(_, path string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFileSystem) ReadDir(_, path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

func (osFileSystem) Remove(_, path string) error { return os.Remove(path) }

func (osFileSystem) Rename(_, from, to string) error { return os.Rename(from, to) }

func (osFileSystem) Free(_, path string) (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}

func (osFileSystem) SyncDir(_, path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

type osFile struct{ f *os.File }

func (f osFile) ReadAt(_ string, p []byte, off int64) (int, error)  { return f.f.ReadAt(p, off) }
func (f osFile) WriteAt(_ string, p []byte, off int64) (int, error) { return f.f.WriteAt(p, off) }
func (f osFile) Sync(string) error                                  { return fdatasync(f.f) }
func (f osFile) Truncate(_ string, size int64) error                { return f.f.Truncate(size) }
func (f osFile) Close() error                                       { return f.f.Close() }
