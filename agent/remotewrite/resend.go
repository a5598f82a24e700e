package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// Resender posts letters to the endpoint they were refused by, as it is
// configured now. Close it.
type Resender struct {
	client *client
	forced bool // protobuf_message says 2.0, whatever the receiver shows of it
}

// NewResender prepares to send letters to e.
func NewResender(e config.RemoteWrite, userAgent string) (*Resender, error) {
	c, err := newClient(e, userAgent)
	if err != nil {
		return nil, err
	}
	return &Resender{c, e.Protocol == config.ProtocolV2}, nil
}

// Close closes idle connections.
func (r *Resender) Close() { r.client.http.CloseIdleConnections() }

// Resend posts the bytes of a letter once, and removes it if the receiver
// accepts its samples and histograms; exemplars are not worth what is there
// already. It returns the answer as a log shows it. It may be called beside a
// running agent.
func (r *Resender) Resend(ctx context.Context, l Letter) (answer string, err error) {
	body, err := l.body()
	if err != nil {
		return "", err
	}
	a := r.client.post(ctx, l.Protocol, body)
	if a.judge(l.Protocol, false, true, true) != accepted {
		return "", fmt.Errorf("the receiver did not take it: %s", a.String())
	}
	switch counts := (wal.Totals{Samples: l.Samples, Histograms: l.Histograms}); {
	case l.Protocol != config.ProtocolV2:
	case a.counted && !a.claims(counts):
		return "", fmt.Errorf("the receiver took a part of it: %s, %d of %d samples and %d of %d histograms written",
			a.String(), a.written.Samples, l.Samples, a.written.Histograms, l.Histograms)
	case !a.counted && !r.forced:
		// So answers one of 1.0 that finds no series in it.
		return "", fmt.Errorf("the receiver does not say that it has written any of it, only %s, as one does that does not know 2.0: "+
			"look there, and remove the letter with sql2metrics deadletter rm if it has the samples", a.String())
	}
	_, err = l.remove()
	if err = errors.Join(err, tellRemoved(filepath.Dir(filepath.Dir(l.path)))); err != nil {
		return "", fmt.Errorf("it was taken, but is still there: %w", err)
	}
	return a.String(), nil
}

// body reads the request of the letter.
func (l *Letter) body() (body []byte, err error) {
	file, err := wal.OperatingSystem().OpenFile(opReadLetters, l.path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read dead letter: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f, err := l.read(file)
	if err == nil && f.removed {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter: %w", err)
	}
	return f.body, nil
}
