package filestore

import (
	"context"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Document implements killswitch.Documents.
func (s *Store) Document(ctx context.Context, name string) ([]byte, killswitch.Revision, error) {
	path, err := s.document(ctx, name, nil)
	if err != nil {
		return nil, 0, err
	}
	body, rev, err := read(path)
	return body, rev, err
}

// SetDocument implements killswitch.Documents.
func (s *Store) SetDocument(ctx context.Context, name string, rev killswitch.Revision, body []byte) (at killswitch.Revision, err error) {
	path, err := s.document(ctx, name, body)
	if err != nil {
		return 0, err
	}
	err = s.locked(ctx, func() error {
		_, have, err := read(path)
		if err != nil {
			return err
		}
		if have != rev {
			return fmt.Errorf("document %s is at revision %d, not %d: %w", name, have, rev, killswitch.ErrConflict)
		}
		at = have + 1
		return write(path, at, rawJSON(body))
	})
	return at, err
}

// rawJSON goes into a file as it is.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// document checks a name and a body, and answers where it is.
func (s *Store) document(ctx context.Context, name string, body []byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", unavailable(err)
	}
	if err := killswitch.CheckDocument(name, body); err != nil {
		return "", err
	}
	return s.path("documents", backends.Pod(name), ".json"), nil
}
