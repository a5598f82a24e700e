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
type Resender struct{ client *client }

// NewResender prepares to send letters to e.
func NewResender(e config.RemoteWrite, userAgent string) (*Resender, error) {
	c, err := newClient(e, userAgent)
	if err != nil {
		return nil, err
	}
	return &Resender{c}, nil
}

// Close closes idle connections.
func (r *Resender) Close() { r.client.http.CloseIdleConnections() }

// Resend posts the bytes of a letter once, and removes it if the receiver
// accepts them. It returns the answer as a log shows it. It may be called
// beside a running agent.
func (r *Resender) Resend(ctx context.Context, l Letter) (answer string, err error) {
	body, err := l.body()
	if err != nil {
		return "", err
	}
	a := r.client.post(ctx, l.Protocol, body)
	if a.judge(l.Protocol, false, true) != accepted {
		return "", fmt.Errorf("the receiver did not take it: %s", a.String())
	}
	counts := wal.Totals{Samples: l.Samples, Histograms: l.Histograms, Exemplars: l.Exemplars}
	if l.Protocol == config.ProtocolV2 && a.counted && !a.claims(counts) {
		return "", fmt.Errorf("the receiver took a part of it: %s, %d of %d samples written", a.String(), a.written.Samples, l.Samples)
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
