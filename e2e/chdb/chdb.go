//go:build chdb

// Package chdb runs queries in chDB, which is ClickHouse as a library. It is how
// tests meet a current ClickHouse engine where no current server is at hand. The
// library has half a gigabyte, so whatever needs it is behind the build tag chdb;
// see the Makefile.
package chdb

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

typedef void *connection;
typedef void result;

static struct {
	connection *(*connect)(int, char **);
	void (*close)(connection *);
	result *(*query)(connection, const char *, const char *);
	char *(*buffer)(result *);
	size_t (*length)(result *);
	const char *(*error)(result *);
	void (*destroy)(result *);
	void (*handle_signals)(int);
} lib;

// load fills in lib and returns what is wrong, or null.
static const char *load(const char *path) {
	void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!so) return dlerror();
	struct { const char *name; void *at; } symbols[] = {
		{"chdb_connect", &lib.connect}, {"chdb_close_conn", &lib.close}, {"chdb_query", &lib.query},
		{"chdb_result_buffer", &lib.buffer}, {"chdb_result_length", &lib.length}, {"chdb_result_error", &lib.error},
		{"chdb_destroy_query_result", &lib.destroy}, {"chdb_set_signal_handlers_enabled", &lib.handle_signals},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
		if (!(*(void **)symbols[i].at = dlsym(so, symbols[i].name))) return dlerror();
	lib.handle_signals(0); // they are Go's
	return 0;
}

static connection *open_engine(char *folder) {
	char *argv[] = {"clickhouse", folder};
	return lib.connect(2, argv);
}
static void close_engine(connection *c) { lib.close(c); }
static result *query(connection *c, const char *sql) { return lib.query(*c, sql, "Native"); }
static const char *error_of(result *r) { return lib.error(r); }
static char *buffer_of(result *r) { return lib.buffer(r); }
static size_t length_of(result *r) { return lib.length(r); }
static void destroy(result *r) { lib.destroy(r); }
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// Engine is the one engine of a process. Its methods may be called from several
// goroutines.
type Engine struct {
	mu         sync.Mutex
	connection *C.connection
}

// Open loads the library at path and starts its engine with data in folder. The
// caller closes it.
func Open(path, folder string) (*Engine, error) {
	library := C.CString(path)
	defer C.free(unsafe.Pointer(library))
	if wrong := C.load(library); wrong != nil {
		return nil, fmt.Errorf("load chDB: %s", C.GoString(wrong))
	}
	where := C.CString("--path=" + folder)
	defer C.free(unsafe.Pointer(where))
	e := &Engine{connection: C.open_engine(where)}
	if e.connection == nil {
		return nil, errors.New("start chDB: it gives no reason")
	}
	return e, nil
}

// Query runs statements and returns the result of the last, as FORMAT Native
// has it.
func (e *Engine) Query(sql string) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := C.CString(sql)
	defer C.free(unsafe.Pointer(text))
	r := C.query(e.connection, text)
	if r == nil {
		return nil, errors.New("chDB gives no result")
	}
	defer C.destroy(r)
	if wrong := C.error_of(r); wrong != nil {
		return nil, errors.New(C.GoString(wrong))
	}
	return C.GoBytes(unsafe.Pointer(C.buffer_of(r)), C.int(C.length_of(r))), nil
}

// Close ends the engine.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	C.close_engine(e.connection)
}
