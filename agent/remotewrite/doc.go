// Package remotewrite ships the log to receivers of Prometheus remote write:
// one [Shipper] per endpoint, each with its own cursor and its own pace.
//
// # Windows
//
// A shipper works in windows. A window is a run of whole frames from the
// cursor on: what is there once its oldest frame is batch_send_deadline old,
// or 131,072 samples at once when there is a backlog. External labels and
// write_relabel_configs are applied, the samples are grouped by series, and
// the series, in order of first appearance, are cut between series into
// requests. The cursor moves when every request of the window has its answer.
//
// A window is a function of the log between two positions, of the
// configuration, and of a few numbers that are saved with it: the size of its
// requests, the age its samples may have, the series that travel alone. Its end,
// these and a hash of what else shaped it are saved and synced with the cursor
// before the first byte is sent, so that a process that died, of power loss too,
// is followed by one that makes the same requests, byte for byte. They go first
// and alone. A receiver that had stored one of them sees it again unmixed with
// anything new, and whatever it says to it costs nothing new. When the cursor
// itself is lost, nobody knows which frames were sent together: each goes alone.
//
// # Answers
//
// What an answer means is decided in one place, by its status and, in 2.0, by
// what it says was written; never by its words. A request that is too large is
// halved, between series first and then in time; where that ends at one sample,
// only its series is to blame. One that is refused without counts that can be
// believed is inquired into: samples are tried, then its series are bisected,
// until the guilty ones are known. What is given up goes to the [DeadLetter] with
// the receiver's words, and the guilty series travel in requests of their own for
// a while. What is booked of the pieces is saved one by one: a process killed
// between them is followed by one that goes on with the rest, in doubt.
//
// Something is in doubt when an attempt to send it was not answered for good.
// What is then refused may be stored already, and is counted as unconfirmed.
//
// # Accounting
//
// Every sample, histogram and exemplar that was appended since the cursor began
// is sent, dropped for a named [Reason], unconfirmed or pending: [Ledger]. The
// books are closed per window, with the cursor, and only what is saved is
// shown, so no counter goes back when the process is killed.
package remotewrite
