//go:build unix

package sources

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// bystander tells whether the files that this process makes beside a database
// would be in its application's way: whether it is not the database's owner.
// In WAL mode even a reader makes SQLite create -wal and -shm when they are not
// there, and the application could not write to files of the agent's. As root,
// SQLite gives them to the owner, but only a moment after it has made them; an
// application that opened in that moment was locked out in each of eight
// stress tests, so root is a bystander as well.
func bystander(file os.FileInfo) bool {
	owner, known := file.Sys().(*syscall.Stat_t)
	return !known || int(owner.Uid) != os.Geteuid()
}

// bystanderURI names the file at path to SQLite, which then opens its -shm for
// reading and never makes one. It does not keep SQLite from making a -wal:
// bystanderVFS does.
func bystanderURI(path string) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: "readonly_shm=1"}).String()
}

// bystanderVFS returns the name, as a C string, of SQLite's access to files in
// which a -wal is opened but never made. Whether one is there is for the open
// itself to find out: an application that closes between a check and the open
// would have removed it.
var bystanderVFS = sync.OnceValues(func() (name uintptr, _ error) {
	tls := libc.NewTLS()
	defer tls.Close()
	const size = unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})
	vfs := libc.Xmalloc(tls, libc.Tsize_t(size)) // SQLite keeps it, and the name
	name, err := libc.CString("sql2metrics-bystander")
	if err != nil || vfs == 0 {
		return 0, errors.New("register bystander VFS: out of memory")
	}
	libc.Xmemcpy(tls, vfs, sqlite3.Xsqlite3_vfs_find(tls, 0), libc.Tsize_t(size))
	open := openFunc(openExistingWAL)
	libc.AtomicStorePUintptr(vfs+unsafe.Offsetof(sqlite3.Tsqlite3_vfs{}.FzName), name)
	libc.AtomicStorePUintptr(vfs+vfsOpen, *(*uintptr)(unsafe.Pointer(&open)))
	if rc := sqlite3.Xsqlite3_vfs_register(tls, vfs, 0); rc != sqlite3.SQLITE_OK {
		return 0, fmt.Errorf("register bystander VFS: SQLite code %d", rc)
	}
	return name, nil
})

// openFunc is xOpen of an sqlite3_vfs, and vfsOpen its place there.
type openFunc func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32

const vfsOpen = unsafe.Offsetof(sqlite3.Tsqlite3_vfs{}.FxOpen)

// openExistingWAL is xOpen of the default VFS without leave to make a -wal.
func openExistingWAL(tls *libc.TLS, _, path, file uintptr, flags int32, outFlags uintptr) int32 {
	if flags&sqlite3.SQLITE_OPEN_WAL != 0 {
		flags &^= sqlite3.SQLITE_OPEN_CREATE
	}
	vfs := sqlite3.Xsqlite3_vfs_find(tls, 0)
	open := libc.AtomicLoadPUintptr(vfs + vfsOpen)
	return (*(*openFunc)(unsafe.Pointer(&open)))(tls, vfs, path, file, flags, outFlags)
}

// explainBystander says why a bystander could not open the files of WAL mode.
func explainBystander(path string, file os.FileInfo, err error) error {
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, missing := os.Stat(path + suffix); errors.Is(missing, os.ErrNotExist) {
			whose := "the database's owner"
			if owner, known := file.Sys().(*syscall.Stat_t); known {
				whose = fmt.Sprintf("uid %d", owner.Uid)
			}
			return fmt.Errorf("it is in WAL mode and no application has it open; opening it as another user would leave files that its application cannot write to: run the agent as %s, or keep the application running: %w", whose, err)
		}
	}
	return fmt.Errorf("it is in WAL mode and its files -wal and -shm could not be opened: let uid %d read them, unless its application was just opening or closing it: %w", os.Geteuid(), err)
}
