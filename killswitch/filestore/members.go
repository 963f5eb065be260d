package filestore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// member is what is in the file of a registration.
type member struct {
	killswitch.Member
	// Run tells one process that registers under a name from another.
	Run string `json:"run"`
	// Until is when the lease runs out, by the machine's clock that only goes on, since the boot.
	Until time.Duration `json:"until_ns"`
	Boot  string        `json:"boot"`
}

// instant is now by the clock that all processes of the machine share and nobody sets.
type instant struct {
	boot  string
	since time.Duration
}

func machineNow() (instant, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return instant{}, unavailable(err)
	}
	// Where there is none (outside Linux) a registration from before a boot may be taken for a living one, for one
	// lease at most in the worst case that the clock has come that far again.
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return instant{}, unavailable(err)
	}
	return instant{boot: strings.TrimSpace(string(boot)), since: time.Duration(ts.Nano())}, nil
}

// Join implements killswitch.ControlStore.
func (s *Store) Join(ctx context.Context, m killswitch.Member, ttl time.Duration) (killswitch.Membership, error) {
	if err := errors.Join(m.Check(), killswitch.CheckLease("lease", ttl)); err != nil {
		return nil, err
	}
	r, err := killswitch.Register(ctx, s.clock, ttl, &registrar{s: s, ttl: ttl, self: member{Member: m, Run: rand.Text()}, first: true})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.registered = append(s.registered, r)
	s.mu.Unlock()
	return r, nil
}

// Close implements killswitch.ControlStore.
func (s *Store) Close() error {
	s.mu.Lock()
	rs := s.registered
	s.registered = nil
	s.mu.Unlock()
	for _, r := range rs {
		r.Abandon()
	}
	return nil
}

// registrar is one registration.
type registrar struct {
	s     *Store
	ttl   time.Duration
	self  member
	first bool // the next renewal takes the name over
}

func (r *registrar) path() string {
	return r.s.path("members", backends.Pod(r.self.Proxy), ".json")
}

// Renew implements killswitch.Registrar.
func (r *registrar) Renew(ctx context.Context) error {
	now, err := machineNow()
	if err != nil {
		return err
	}
	r.self.Boot, r.self.Until = now.boot, now.since+r.ttl
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	err = r.s.locked(ctx, func() error {
		have, rev, err := readMember(r.path())
		if err != nil {
			return err
		}
		if rev > 0 && have.Run != r.self.Run && !r.first {
			return killswitch.ErrReplaced
		}
		if rev == 0 {
			if err := r.s.memberRoom(); err != nil {
				return err
			}
		}
		return write(r.path(), rev+1, r.self)
	})
	r.first = r.first && err != nil
	return err
}

// Remove implements killswitch.Registrar.
func (r *registrar) Remove(ctx context.Context) error {
	return r.s.locked(ctx, func() error {
		have, rev, err := readMember(r.path())
		if err != nil || rev == 0 || have.Run != r.self.Run {
			return err
		}
		if err := os.Remove(r.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unavailable(err)
		}
		return syncDir(filepath.Dir(r.path()))
	})
}

// memberRoom removes the files of those who are gone where there are too many. The caller has the lock.
func (s *Store) memberRoom() error {
	names, err := s.named("members")
	if err != nil || len(names) < killswitch.MaxMembers {
		return err
	}
	now, err := machineNow()
	if err != nil {
		return err
	}
	left := 0
	for _, name := range names {
		path := s.path("members", name, ".json")
		switch m, rev, err := readMember(path); {
		case err != nil:
			return err
		case rev > 0 && m.lives(now):
			left++
		default:
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return unavailable(err)
			}
		}
	}
	if left >= killswitch.MaxMembers {
		return fmt.Errorf("control store %s: it has %d registered proxies, and cannot have more", s.dir, left)
	}
	return nil
}

func (m member) lives(now instant) bool { return m.Boot == now.boot && m.Until > now.since }

func readMember(path string) (member, killswitch.Revision, error) {
	var m member
	body, rev, err := read(path)
	if err != nil || rev == 0 {
		return m, rev, err
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return member{}, 0, damaged(path, err.Error())
	}
	return m, rev, nil
}

// Members implements killswitch.ControlStore.
func (s *Store) Members(ctx context.Context) ([]killswitch.Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	names, err := s.named("members")
	if err != nil {
		return nil, err
	}
	var out []killswitch.Member
	for _, name := range names {
		m, rev, err := readMember(s.path("members", name, ".json"))
		if err != nil {
			return nil, err
		}
		now, err := machineNow()
		if err != nil {
			return nil, err
		}
		if rev > 0 && m.lives(now) {
			out = append(out, m.Member)
		}
	}
	return out, nil
}
