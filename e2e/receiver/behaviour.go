package receiver

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Behaviour is how a receiver answers one request. store is Prometheus's own
// handler.
type Behaviour func(w http.ResponseWriter, r *http.Request, store http.Handler)

// Behave makes every request from here on be answered as b says. Requests that
// are being answered finish as they began.
func (r *Receiver) Behave(b Behaviour) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behaviour = b
}

// ServeHTTP answers a request as the present behaviour says.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	answer := r.behaviour
	r.attempts++
	r.mu.Unlock()
	// Only with its body read does the server notice that a sender is gone.
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	answer(w, req, r.store)
}

// Attempts counts the requests that arrived, however they were answered.
func (r *Receiver) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}

// Up stores and answers.
func Up(w http.ResponseWriter, r *http.Request, store http.Handler) { store.ServeHTTP(w, r) }

// Status answers with a status and stores nothing. A retryAfter above zero
// goes with it as Retry-After, in whole seconds.
func Status(code int, retryAfter time.Duration) Behaviour {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		}
		http.Error(w, "the test wants "+http.StatusText(code), code)
	}
}

// Refusing answers a request with the status that refuse returns for its
// series, and stores nothing of it; with zero it is stored.
func Refusing(refuse func(series []Series) int) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, series, err := decode(r.Header.Get("Content-Type"), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if status := refuse(series); status != 0 {
			http.Error(w, "the test refuses it", status)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		store.ServeHTTP(w, r)
	}
}

// Reset stores nothing and resets the connection.
func Reset(w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }

// StoreThenReset stores the request and resets the connection before the
// answer: the sender cannot know what became of it.
func StoreThenReset(w http.ResponseWriter, r *http.Request, store http.Handler) {
	store.ServeHTTP(&unsent{header: http.Header{}}, r)
	reset(w)
}

// Slow lets each request wait before it is stored. If its sender gives up or the
// receiver begins to refuse, the connection ends without an answer: any answer
// would be taken for one to what was stored.
func Slow(d time.Duration) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		wait := time.NewTimer(d)
		defer wait.Stop()
		select {
		case <-wait.C:
			store.ServeHTTP(w, r)
		case <-r.Context().Done():
			reset(w)
		}
	}
}

// SlowAnswer stores each request and lets its sender wait for the answer.
func SlowAnswer(d time.Duration) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		wait := time.NewTimer(d)
		defer wait.Stop()
		answer := httptest.NewRecorder()
		store.ServeHTTP(answer, r)
		select {
		case <-wait.C:
		case <-r.Context().Done():
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // so that the close is a reset
	}
	_ = conn.Close()
}

// unsent takes an answer that nobody gets.
type unsent struct{ header http.Header }

func (u *unsent) Header() http.Header       { return u.header }
func (*unsent) Write(b []byte) (int, error) { return len(b), nil }
func (*unsent) WriteHeader(int)             {}
