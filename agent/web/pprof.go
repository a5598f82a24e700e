package web

import (
	"net/http"
	"net/http/pprof"
)

// handlePprof has /debug/pprof answer with profiles of the process, or say how
// they are enabled: they cost time, and show command lines and memory.
func handlePprof(mux *http.ServeMux, enabled bool) {
	const root = "/debug/pprof/"
	if !enabled {
		mux.HandleFunc(root, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Profiles are not enabled: start the agent with --web.enable-pprof.", http.StatusForbidden)
		})
		return
	}
	mux.HandleFunc(root, pprof.Index)
	mux.HandleFunc(root+"cmdline", pprof.Cmdline)
	mux.HandleFunc(root+"profile", pprof.Profile)
	mux.HandleFunc(root+"symbol", pprof.Symbol)
	mux.HandleFunc(root+"trace", pprof.Trace)
}
