package wal

// Totals counts samples, histograms and exemplars. In a frame's header they
// are running totals since the log began, so that the difference of two
// headers is the exact number of what lies between them.
type Totals struct {
	Samples    uint64 `json:"samples"`
	Histograms uint64 `json:"histograms"`
	Exemplars  uint64 `json:"exemplars"`
}

// Add returns t + o.
func (t Totals) Add(o Totals) Totals {
	return Totals{t.Samples + o.Samples, t.Histograms + o.Histograms, t.Exemplars + o.Exemplars}
}

// Sub returns t - o. Callers see to it that o is the older.
func (t Totals) Sub(o Totals) Totals {
	return Totals{t.Samples - o.Samples, t.Histograms - o.Histograms, t.Exemplars - o.Exemplars}
}

// Apart returns by how much t and o differ, all kinds together.
func (t Totals) Apart(o Totals) int64 {
	apart := func(a, b uint64) int64 { return int64(max(a, b) - min(a, b)) }
	return apart(t.Samples, o.Samples) + apart(t.Histograms, o.Histograms) + apart(t.Exemplars, o.Exemplars)
}

// cover tells whether o may have been before t: none of it is more.
func (t Totals) cover(o Totals) bool {
	return t.Samples >= o.Samples && t.Histograms >= o.Histograms && t.Exemplars >= o.Exemplars
}

// IsZero tells whether nothing is counted.
func (t Totals) IsZero() bool { return t == Totals{} }

// Position is a place between two frames: all frames up to and including Seq
// have been passed. The zero Position is the beginning of the log.
type Position struct {
	Seq     uint64 // sequence number of the last frame passed
	Segment uint64 // name of its segment: the first sequence number in it
	Offset  int64  // of the first byte after that frame
	Totals  Totals // running totals after that frame
}
