// Package wal is the write-ahead log between collection and shipping. Workers
// append rounds of samples, endpoints read frames of them, each at its own
// pace and from its own cursor. What has been appended survives the process;
// what has been synced survives the machine; what must go to keep the disk's
// bound is counted to the sample.
//
// # On disk
//
//	<path>/lock                                held by the one process that writes
//	<path>/segments/00000000000000000001.seg   named by the first sequence number in it
//	<path>/segments/00000000000000004711.seg
//	<path>/cursors/<endpoint>.cursor           where an endpoint is
//	<path>/cursors/endpoints                   the names of those that the last start had
//	<path>/quarantine/<segment>-<offset>.damaged   bytes that could not be read
//
// Numbers are little endian, times are Unix milliseconds, CRC is CRC32C
// (Castagnoli). A segment is a preamble, a header and frames:
//
//	 0        8          12         16
//	┌─────────┬──────────┬──────────┬───────────────────────────────────────────────┐
//	│ magic   │ version  │ CRC      │ header, 68 bytes                              │
//	│ 8 bytes │ u32      │ of 0..12 │                                               │
//	└─────────┴──────────┴──────────┴───────────────────────────────────────────────┘
//	16        32         40         48                72        80        84
//	┌─────────┬──────────┬──────────┬─────────────────┬─────────┬─────────┬─────────
//	│ log id  │ first    │ created  │ running totals  │ floor   │ CRC     │ frames …
//	│ 16      │ seq u64  │ i64      │ before, 3 × u64 │ i64     │ of 16.. │
//	└─────────┴──────────┴──────────┴─────────────────┴─────────┴─────────┴─────────
//
// The preamble means the same in every version of the format, so that an older
// program knows a newer segment and leaves it alone. The log id is random and
// made with the log. Running totals count samples, histograms and exemplars
// since then. The floor is the largest time of a sample in all frames before,
// those with own times left out; the smallest i64 when there is none.
//
// A frame is a header of 88 bytes and a payload:
//
//	 0       4       8         12      16            20        24           28
//	┌───────┬───────┬─────────┬───────┬─────────────┬─────────┬────────────┬───────────┐
//	│ magic │ CRC   │ payload │ flags │ uncompressed│ samples │ histograms │ exemplars │
//	│ u32   │ of 8..│ len u32 │ u32   │ len u32     │ u32     │ u32        │ u32       │
//	└───────┴───────┴─────────┴───────┴─────────────┴─────────┴────────────┴───────────┘
//	32        40           48                      72        80        88
//	┌─────────┬────────────┬───────────────────────┬─────────┬─────────┬─────────
//	│ seq     │ appended   │ running totals before │ min     │ max     │ payload …
//	│ u64     │ at i64     │ this frame, 3 × u64   │ time    │ time    │
//	└─────────┴────────────┴───────────────────────┴─────────┴─────────┴─────────
//
// Flags: 1 the payload is compressed with zstd, 2 it is a piece of the
// segment's series table or has all states, 4 the samples have their own times; all others are
// 0. The CRC covers everything after itself. Sequence numbers rise and are
// never used twice; they may leave gaps. The difference of two running totals
// is what lies between them: backlog, eviction and damage are counted without
// reading it.
//
// A payload is a list of records, each after its length as a uvarint, at most
// one of each type: Series, Metadata, SamplesV2, Exemplars, HistogramSamplesV2
// and FloatHistogramSamplesV2 of Prometheus's tsdb/record. Series references
// begin at 1 in each segment and are dense: a segment is read without any
// other. A series comes with the first frame that uses it, and when a segment
// is sealed its whole table once more, in frames of their own that have the
// sequence number of the last frame and count nothing.
//
// A record of type 15 is ours: the states that are kept with the samples. After
// its type come, for each, the length of the key, the key, the length of the
// value and one, or zero where it is removed, and the value; lengths are
// uvarints. It is in the frame with the last samples of its round. A segment
// begins with all states there are, in a frame like those of the table.
//
// After an fdatasync that failed, the kernel may take what it could not write
// for written. What is not known to be on the disk is therefore written again
// from memory, to a file <name>.seg.new that is renamed when it is synced. If
// nothing of the segment was synced, that replaces it. Otherwise the new one is
// named by the first frame in it and begins with the series table so far, in
// frames as above. A segment ends where the next one that has a whole header
// begins: copies of frames that the old file still has are not read.
//
// A round is cut into frames of 2,000 samples; one write puts them all at the
// segment's end. The first round of a segment brings the segment's header
// along, so there is none without a frame. A segment is sealed when it has 8
// MiB or is 10 minutes old.
//
// A cursor file is two slots of 4096 bytes, each within one page of memory and
// so whole after a kill:
//
//	 0       4       8            16        32        40        48         56
//	┌───────┬───────┬────────────┬─────────┬─────────┬─────────┬──────────┬──────────┐
//	│ magic │ CRC   │ generation │ log id  │ seq     │ segment │ offset   │ totals   │
//	│ u32   │ of 8..│ u64        │ 16      │ u64     │ u64     │ i64      │ 3 × u64  │
//	└───────┴───────┴────────────┴─────────┴─────────┴─────────┴──────────┴──────────┘
//	80           88             112             116
//	┌────────────┬──────────────┬───────────────┬──────────────────────────┐
//	│ synced seq │ synced       │ state len u32 │ state, up to 3980 bytes  │
//	│ u64        │ totals 3×u64 │               │                          │
//	└────────────┴──────────────┴───────────────┴──────────────────────────┘
//
// The first seq, segment, offset and totals are the endpoint's position. The
// synced ones are how far the log was known to be on the disk when the slot was
// written, which no file of the log itself can tell: a newest frame that is
// damaged looks like one that was torn.
// The valid slot with the larger generation holds. A slot is written over only
// when the other has been synced, so that between two syncs the same one is
// written again and again.
//
// The file of the endpoints' names is text: a line with the CRC32C of all that
// follows, in hexadecimal, and a line per name, escaped as in a URL. It is
// replaced whole, by a rename. A cursor that none of them has is an orphan: it
// is kept, and holds nothing back.
//
// # An example
//
// A whole segment with one round of one sample, up{job="pg"} 1, read byte by
// byte by a test:
//
//	0000  73 71 6c 32 6d 77 61 6c  magic "sql2mwal"
//	0008  01 00 00 00              format version 1
//	000c  45 90 e5 4a              CRC32C of the 12 bytes before
//	0010  73 69 78 74 65 65 6e 20  log id
//	0018  20 6c 65 74 74 65 72 73
//	0020  01 00 00 00 00 00 00 00  first sequence number 1
//	0028  05 68 e5 cf 8b 01 00 00  created 1700000000005
//	0030  00 00 00 00 00 00 00 00  running totals before: samples 0
//	0038  00 00 00 00 00 00 00 00    histograms 0
//	0040  00 00 00 00 00 00 00 00    exemplars 0
//	0048  00 00 00 00 00 00 00 80  floor: none
//	0050  cb 08 7b 59              CRC32C of the 64 bytes before
//	0054  f7 73 32 6d              frame magic
//	0058  e6 15 e4 52              CRC32C of all that follows in the frame
//	005c  41 00 00 00              payload 65 bytes
//	0060  00 00 00 00              flags: none, so not compressed
//	0064  41 00 00 00              uncompressed 65 bytes
//	0068  01 00 00 00              1 sample
//	006c  00 00 00 00              0 histograms
//	0070  00 00 00 00              0 exemplars
//	0074  01 00 00 00 00 00 00 00  sequence number 1
//	007c  05 68 e5 cf 8b 01 00 00  appended at 1700000000005
//	0084  00 00 00 00 00 00 00 00  running totals before: samples 0
//	008c  00 00 00 00 00 00 00 00    histograms 0
//	0094  00 00 00 00 00 00 00 00    exemplars 0
//	009c  00 68 e5 cf 8b 01 00 00  smallest time 1700000000000
//	00a4  00 68 e5 cf 8b 01 00 00  largest time
//	00ac  1d                       record of 29 bytes
//	00ad  01                         type 1: series
//	00ae  00 00 00 00 00 00 00 01    reference 1, big endian
//	00b6  02                         2 labels
//	00b7  08 5f 5f 6e 61 6d 65 5f      "__name__"
//	00bf  5f
//	00c0  02 75 70                     "up"
//	00c3  03 6a 6f 62                  "job"
//	00c7  02 70 67                     "pg"
//	00ca  10                       record of 16 bytes
//	00cb  06                         type 6: metadata
//	00cc  01 02 02                   reference 1, type 2 gauge, 2 fields
//	00cf  04 55 4e 49 54 00            "UNIT": ""
//	00d5  04 48 45 4c 50 00            "HELP": ""
//	00db  11                       record of 17 bytes
//	00dc  0b                         type 11: samples
//	00dd  02                         reference 1, zigzag
//	00de  80 a0 ab fe f9 62          time 1700000000000
//	00e4  00                         start timestamp 0
//	00e5  3f f0 00 00 00 00 00 00    value 1.0, big endian
//
// # Recovery
//
// Open does this; it needs the time of one segment, however many there are.
//
//  1. Wait for room for the folder, if there is none, and for its lock.
//  2. List the segments, and read the first 84 bytes of each. One of a newer
//     version is set aside: not read, not changed, counted. So is one of
//     another log (the log is the one that most segments and cursors say, or
//     most cursors where no segment does), a copy under another name, and
//     rubbish with a name beyond 2^61. A folder or a link is no segment. One
//     that has lost its name, as when two were swapped, gets it back. One with a
//     damaged header stays: its frames stand for themselves.
//  3. Read the newest segment, frame by frame. What follows its last whole
//     frame is kept in the quarantine and cut off: a torn write, or, if it had
//     been synced, damage, which 5 counts. If it has no frame and no header
//     either, it is removed if it is no longer than that, and the segment
//     before it is read in its place.
//  4. Sequence number, totals and floor go on from its last frame, or its
//     header; in any case with a number above all that the segments stepped
//     over can hold, which have fewer frames than bytes. A floor more than a
//     day ahead of the clock is not believed.
//  5. Read the cursors. If one has passed more than the segments have, or was
//     saved when more had been synced, sequence number and totals go on from
//     there, and readers count the difference: it was damaged, or shipped
//     without having been synced, or is set aside.
//  6. If the segment is of our version, not sealed, and nothing in it is
//     damaged, appends go on in it. Otherwise the first of them begins a new one.
//  7. Sync the segments that were written to in the last minute before the
//     newest one's last write: the process that wrote them may not have.
//
// A reader that finds a frame damaged looks for the next frame magic with a
// whole frame after it, takes the segment's series from the table at its end,
// and reports what is missing as Frame.Damaged. The bytes are copied to the
// quarantine, of which the oldest go when it is over 16 MiB or a 64th of the
// log's bound. A block that the disk does not give out is tried again for a
// while, and is damage then, unless the disk gives out nothing at all; a file
// that the agent's user may not read is waited for. A reader whose next segment
// is gone goes on in the oldest one and reports Frame.Evicted.
//
// A segment that was set aside by an older version is one that a segment of an
// older format follows. A version that can read it appends its samples once
// more, and removes it then: they come behind younger ones of the same series,
// which the log itself never refuses here.
//
// # Our assumptions about the disk
//
//   - What write(2) has returned for outlives the process, whatever ends it.
//   - What fdatasync(2) has returned for outlives the machine; so do the names
//     in a folder after fsync(2) of the folder.
//   - A write of up to 4096 bytes within one page is not torn by a kill. It may
//     be by a power loss, as may anything else that is not synced: in any
//     order, in part, and with the file's length ahead of its bytes.
//   - A write that fails may have written any part of its bytes. They are cut
//     off again; where that fails too, the segment is left and what is whole in
//     it counts as appended. What is not waits in memory, 8 MiB at most, and is
//     written by a later sync step.
//   - A sync that fails may have lost any of the bytes it was to make safe, and
//     is not to be believed if it succeeds the next time. Only the process that
//     was told can write them again: if it ends before that, they are as safe
//     as the kernel keeps them until the segment is removed.
//   - Bytes that have been synced may still rot. The CRC finds it; no more than
//     the frames hit, and what comes after them in an open segment of series
//     they introduced, is lost.
//   - A folder is on one machine: the lock is flock(2), which network file
//     systems may not keep.
package wal
