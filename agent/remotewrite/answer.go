package remotewrite

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// verdict is what an answer means for its request, the worse the larger.
type verdict int

const (
	// accepted: the receiver has it.
	accepted verdict = iota
	// refused: the receiver will never take it as it is.
	refused
	// tooLarge: the receiver may take it in smaller requests.
	tooLarge
	// reworded: the receiver may take it in the other protocol.
	reworded
	// unavailable: the same bytes again, later.
	unavailable
	// misconfigured: nothing will be taken until somebody changes something,
	// there or here. The data is held.
	misconfigured
)

// judge says what an answer means. It is the only place that knows statuses.
// p is the protocol of the request; mayReword says that the endpoint may be
// spoken to in either and has not refused the other one just now; confirmed
// says that the endpoint has shown that it speaks 2.0, and trusted that it knows
// one version from the other, so that its word is taken where it counts nothing.
func (a *answer) judge(p config.Protocol, mayReword, confirmed, trusted bool) verdict {
	switch {
	case a.err != nil:
		if token := (*tokenError)(nil); errors.As(a.err, &token) && token.final() {
			return misconfigured
		}
		return unavailable
	case a.status/100 == 2 && a.page:
		// No receiver answers with HTML. Whoever did has stored nothing.
		return misconfigured
	case a.status/100 == 2:
		// A receiver of 1.0 that does not look at Content-Type finds no series
		// in a request of 2.0 and is content. One that has counted before may
		// have been replaced by such a one.
		if p == config.ProtocolV2 && !a.counted && !trusted && mayReword {
			return reworded
		}
		return accepted
	case a.status == http.StatusTooManyRequests, a.status/100 == 5,
		a.status == http.StatusRequestTimeout, a.status == http.StatusMisdirectedRequest, a.status == http.StatusTooEarly:
		return unavailable
	case a.declined():
		if mayReword {
			return reworded
		}
		return misconfigured
	case a.status == http.StatusRequestEntityTooLarge:
		return tooLarge
	case a.status == http.StatusBadRequest && p == config.ProtocolV2 && !confirmed && mayReword:
		return reworded
	case a.status == http.StatusBadRequest, a.status == http.StatusConflict, a.status == http.StatusGone,
		a.status == http.StatusPreconditionFailed, a.status == http.StatusUnprocessableEntity:
		return refused
	default:
		// Every other 4xx, such as 401, 403, 404, 405 and 407, is about who
		// asks for what and not about the samples; so is a redirect. Nobody
		// knows what 600 and above want.
		return misconfigured
	}
}

// claims tells whether the counts say that all of what was sent was written.
// With a refusal they say nothing: Mimir sets the Written headers on every
// answer it gives after it has tried to store, 4xx and 429 too, and counts what
// it received, before validation. Counts of a part can only be of what was
// stored.
func (a *answer) claims(sent wal.Totals) bool { return least(a.written, sent) == sent }

// declined tells whether the request was turned away for its protocol alone,
// so that nothing of it can have been stored.
func (a *answer) declined() bool { return a.status == http.StatusUnsupportedMediaType }

// trouble is the state of an endpoint that is unavailable.
func (a *answer) trouble() EndpointState {
	if a.err == nil && a.status == http.StatusTooManyRequests {
		return EndpointThrottled
	}
	return EndpointDown
}

// advice tells the operator what to do about a misconfigured answer.
func (a *answer) advice() string {
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "check basic_auth, authorization and the tenant header of this remote_write"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "check the path of the url of this remote_write"
	case http.StatusProxyAuthRequired:
		return "check the user and password in proxy_url of this remote_write"
	case http.StatusUnsupportedMediaType:
		return "the receiver takes neither protocol; check the url, and protobuf_message if it is set"
	}
	switch {
	case a.err != nil:
		return "check oauth2 of this remote_write: client_id, client_secret, scopes and token_url"
	case a.status/100 == 2:
		return "the url is answered with a web page, as a login page or a captive portal does; check the url and the proxy of this remote_write"
	case a.status/100 == 3:
		return "the url is answered with a redirect, which is not followed; put the address it leads to in the url of this remote_write"
	}
	return "check that the url of this remote_write is a remote write receiver"
}

// remedy tells the operator, as far as the receiver's words say, what would
// make it take such samples. Nothing is decided by it.
func (a *answer) remedy() string {
	words := strings.ToLower(a.words)
	for _, late := range []string{"out of order", "out-of-order", "out of bounds", "too old", "too-old", "too far behind"} {
		if strings.Contains(words, late) {
			return "the samples came too late for the receiver: let its out-of-order window cover the longest outage; " +
				"it is storage.tsdb.out_of_order_time_window in Prometheus, limits.out_of_order_time_window in Mimir, --tsdb.out-of-order.time-window in Thanos"
		}
	}
	return "see the receiver's words; sql2metrics deadletter list shows what it refused"
}

// fault names what an answer is about, as far as it is to be said once.
func (a *answer) fault() string { return a.code() + ": " + a.advice() }

// String is the answer as a log shows it: short, printable, without secrets of
// ours.
func (a *answer) String() string {
	if a.err != nil {
		return printable(a.err.Error())
	}
	s := strconv.Itoa(a.status)
	if t := http.StatusText(a.status); t != "" {
		s += " " + t
	}
	if a.location != "" {
		s += " to " + printable(a.location)
	}
	if a.words != "" {
		s += ": " + a.words
	}
	return s
}

// code is the label value for the answer in metrics.
func (a *answer) code() string {
	if a.err != nil {
		return "error"
	}
	return strconv.Itoa(a.status)
}

// maxRetryAfter bounds for how long a receiver can silence an endpoint.
const maxRetryAfter = 5 * time.Minute

// wait returns what Retry-After asks for, in seconds or as a date, between
// zero and maxRetryAfter.
func (a *answer) wait(now time.Time) time.Duration {
	var d time.Duration
	if s, err := strconv.ParseUint(a.retryAfter, 10, 31); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(a.retryAfter); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
