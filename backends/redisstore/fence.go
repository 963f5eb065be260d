package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// replicaPatience bounds how long Raise waits for replicas, in ms.
const replicaPatience = 1000

// Fence reads the fence. One that was raised at another run of the server admits nothing, and is
// answered as closed: raise it under a higher epoch.
func (s *Store) Fence(ctx context.Context) (backends.Fence, error) {
	v, err := s.one(ctx, s.bulk, s.script(fenceScript, backends.Token{}, nil))
	if err != nil {
		return backends.Fence{}, err
	}
	f, fenced, run, err := fenceOf(replyOf(v), 0)
	if err != nil {
		return backends.Fence{}, err
	}
	s.guard.saw(f, run, fenced)
	if run != fenced {
		f.Open = false
	}
	return f, nil
}

// fenceOf reads a fence, the run id in it and the server's own, from place i on.
func fenceOf(p *reply, i int) (f backends.Fence, fenced, run string, err error) {
	f, err = parseFence([]string{p.text(i), p.text(i + 1), p.text(i + 2), p.text(i + 3), p.text(i + 4)})
	fenced, run = p.text(i+5), p.text(i+6)
	if err == nil {
		err = p.err()
	}
	return f, fenced, run, err
}

// Raise installs f if it outranks the present fence, binds it to this run of the server, and
// waits until the replicas have it. A *RestartedError says that the server is not the one at
// which the present fence was raised, and that f needs a higher epoch; a *ReplicationError that
// f is raised at the primary alone.
func (s *Store) Raise(ctx context.Context, f backends.Fence, ifEpoch uint64) (backends.Fence, error) {
	if f.Epoch > maxExact {
		return backends.Fence{}, &backends.FieldError{Field: "epoch", Value: strconv.FormatUint(f.Epoch, 10), Bound: "up to 2^53", Next: "epochs grow by one"}
	}
	replicas, err := s.replicas(ctx)
	if err != nil {
		return backends.Fence{}, err
	}
	// One job, so one connection: WAIT speaks of the writes of its own connection.
	raise := s.script(raiseScript, backends.Token{}, nil, strconv.FormatUint(f.Epoch, 10), f.Stage.String(),
		bit(f.Open), bit(f.Filled), strconv.FormatUint(ifEpoch, 10), bit(f.Alone))
	cmds := []*command{raise}
	if replicas > 0 {
		cmds = append(cmds, plain("WAIT", strconv.FormatInt(replicas, 10), strconv.Itoa(replicaPatience)))
	}
	if err := s.bulk.do(ctx, cmds...); err != nil {
		return backends.Fence{}, err
	}
	v, err := raise.result()
	if err != nil {
		return backends.Fence{}, err
	}
	p := replyOf(v)
	have, fenced, run, err := fenceOf(p, 1)
	if err != nil {
		return backends.Fence{}, err
	}
	switch p.text(0) {
	case "raised":
		s.guard.raised(have, run)
	case "same":
		s.guard.saw(have, run, fenced)
	case "restarted":
		have.Open = false
		return have, &RestartedError{Was: fenced, Now: run}
	case "refused":
		s.guard.saw(have, run, fenced)
		return have, &backends.FencedError{Side: backends.SideRedis, Have: have, Want: backends.Token{Epoch: f.Epoch}}
	default:
		return backends.Fence{}, malformed("answer of a raise", errReply)
	}
	if replicas == 0 {
		return have, nil
	}
	n, err := cmds[1].result()
	if err != nil {
		return have, fmt.Errorf("waiting for replicas of the fence: %w", err)
	}
	if confirmed, ok := n.(int64); !ok || confirmed < replicas {
		return have, &ReplicationError{Confirmed: confirmed, Replicas: replicas}
	}
	return have, nil
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// replicas counts the connected ones.
func (s *Store) replicas(ctx context.Context) (int64, error) {
	info, err := s.info(ctx, "replication")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(info["connected_slaves"], 10, 64)
	if err != nil {
		return 0, malformed("INFO replication", err)
	}
	return n, nil
}

// info reads one section of INFO.
func (s *Store) info(ctx context.Context, section string) (map[string]string, error) {
	v, err := s.one(ctx, s.bulk, plain("INFO", section))
	if err != nil {
		return nil, err
	}
	text, _ := v.(string)
	return parseInfo(text), nil
}

func parseInfo(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[name] = value
		}
	}
	return out
}
