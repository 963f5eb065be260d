package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// reviewed is a backend with findings.
type reviewed struct {
	admin.Backend
	store *memfindings.Store
}

func (b *reviewed) Finding(ctx context.Context, pod backends.Pod, id string) (comparator.Finding, error) {
	f, err := b.store.Finding(ctx, pod, id)
	if err != nil {
		return comparator.Finding{}, err
	}
	return *f, nil
}

func (b *reviewed) ListFindings(ctx context.Context, q comparator.FindingQuery) ([]comparator.Finding, error) {
	return b.store.ListFindings(ctx, q)
}

func (b *reviewed) MoveFindings(ctx context.Context, pod backends.Pod, ids []string, c comparator.LifeChange) ([]comparator.Moved, error) {
	return b.store.SetLife(ctx, pod, ids, c)
}

func (b *reviewed) ListApologies(ctx context.Context, q comparator.ApologyQuery) ([]comparator.ApologyRecord, comparator.ApologySum, []string, error) {
	as, err := b.store.ListApologies(ctx, q)
	if err != nil {
		return nil, comparator.ApologySum{}, nil, err
	}
	sum, err := b.store.SumApologies(ctx, q.Pod)
	return as, sum, []string{"redis is away"}, err
}

func (b *reviewed) AckApology(ctx context.Context, pod backends.Pod, id string, a comparator.ApologyAck) (*comparator.ApologyRecord, bool, error) {
	return b.store.AckApology(ctx, pod, id, a)
}

// TestFindings: a list in pages that are told apart from the last one, and changes in the name of the token.
func TestFindings(t *testing.T) {
	b := &reviewed{store: memfindings.New()}
	at := time.Now().UTC().Truncate(time.Microsecond)
	var ids []string
	for i := range 4 {
		hold := backends.HoldID(fmt.Sprint("h", i))
		f := comparator.Finding{ID: comparator.FindingID("p", comparator.Quantity, hold, backends.Key{}), Pod: "p", Class: comparator.Quantity, Hold: hold,
			FirstSeen: at, LastSeen: at.Add(time.Duration(-i) * time.Second), Count: 1, Life: comparator.LifeOpen}
		ids = append(ids, f.ID)
		if err := b.store.SaveFindings(t.Context(), []comparator.Finding{f}); err != nil {
			t.Fatal(err)
		}
	}
	h, err := admin.Handler(b, map[string]string{"ann": "0123456789abcdef", "bob": "fedcba9876543210"}, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	ann, bob := admin.NewClient(addr, "0123456789abcdef"), admin.NewClient(addr, "fedcba9876543210")

	var got []string
	q := admin.FindingsAsked{Limit: 2}
	for page := 1; ; page++ {
		fs, next, err := ann.Findings(t.Context(), "p", q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range fs {
			got = append(got, fs[i].ID)
		}
		if q.After = next; next == "" {
			if page != 2 {
				t.Errorf("four findings in pages of two are %d pages", page)
			}
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("listed %q, want %q", got, ids)
	}
	ms, err := ann.AcknowledgeFindings(t.Context(), "p", ids[:2], "known")
	if err != nil || len(ms) != 2 || !ms[1].Changed || ms[1].Finding.By != "ann" || ms[1].Finding.History[0].At.IsZero() {
		t.Fatalf("%+v, %v", ms, err)
	}
	if ms, err = bob.AcknowledgeFindings(t.Context(), "p", ids[:1], "mine"); err != nil || ms[0].Changed || ms[0].Finding.By != "ann" {
		t.Fatalf("acknowledged twice: %+v, %v", ms, err)
	}
	if ms, err = bob.ReopenFindings(t.Context(), "p", ids[:1], "no"); err != nil || !ms[0].Changed || ms[0].Finding.By != "bob" {
		t.Fatalf("%+v, %v", ms, err)
	}
	if f, err := ann.Finding(t.Context(), "p", ids[0]); err != nil || f.Life != comparator.LifeOpen || len(f.History) != 2 {
		t.Fatalf("%+v, %v", f, err)
	}
}

// TestFindingsAskedWrong: each wrong input is refused as one, by the name of its field.
func TestFindingsAskedWrong(t *testing.T) {
	h, err := admin.Handler(&reviewed{store: memfindings.New()}, nil, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	c := admin.NewClient(strings.TrimPrefix(s.URL, "http://"), "")
	list := func(q admin.FindingsAsked) error {
		_, _, err := c.Findings(t.Context(), "p", q)
		return err
	}
	_, noWhy := c.AcknowledgeFindings(t.Context(), "p", []string{strings.Repeat("0", 32)}, "")
	_, noIDs := c.ReopenFindings(t.Context(), "p", nil, "x")
	_, none := c.Finding(t.Context(), "p", strings.Repeat("0", 32))
	for _, x := range []struct {
		err  error
		code connect.Code
		want string
	}{
		{list(admin.FindingsAsked{Classes: []string{"x"}}), connect.CodeInvalidArgument, "class"},
		{list(admin.FindingsAsked{States: []string{"x"}}), connect.CodeInvalidArgument, "state"},
		{list(admin.FindingsAsked{Item: "ä"}), connect.CodeInvalidArgument, "item"},
		{list(admin.FindingsAsked{Shop: strings.Repeat("x", 65)}), connect.CodeInvalidArgument, "shop"},
		{list(admin.FindingsAsked{Since: -time.Hour}), connect.CodeInvalidArgument, "since"},
		{list(admin.FindingsAsked{Limit: 201}), connect.CodeInvalidArgument, "limit"},
		{list(admin.FindingsAsked{Limit: -7}), connect.CodeInvalidArgument, "limit"},
		{list(admin.FindingsAsked{After: "x"}), connect.CodeInvalidArgument, "after"},
		{noWhy, connect.CodeInvalidArgument, "why"},
		{noIDs, connect.CodeInvalidArgument, "ids"},
		{none, connect.CodeNotFound, "no finding"},
	} {
		re, ok := x.err.(*admin.RemoteError) //nolint:errorlint // the client answers it unwrapped
		if !ok || re.Code != x.code || !strings.Contains(re.Text, x.want) {
			t.Errorf("%v, want %s and %q", x.err, x.code, x.want)
		}
	}
}

// TestApologies: a list in pages with its problems, and acknowledgements in the name of the token.
func TestApologies(t *testing.T) {
	b := &reviewed{store: memfindings.New()}
	var as []backends.Apology
	for i := range 3 {
		as = append(as, backends.Apology{Hold: backends.HoldID(fmt.Sprint("h", i)), Key: backends.Key{Shop: "s", Item: "mug", Location: "A"}, Quantity: 2, Reason: "late", At: backends.Instant(i)})
	}
	if err := b.store.FileApologies(t.Context(), "p", backends.SideRedis, as); err != nil {
		t.Fatal(err)
	}
	h, err := admin.Handler(b, map[string]string{"ann": "0123456789abcdef", "bob": "fedcba9876543210"}, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	ann, bob := admin.NewClient(addr, "0123456789abcdef"), admin.NewClient(addr, "fedcba9876543210")
	first, err := ann.Apologies(t.Context(), "p", []string{"open"}, 2, "")
	if err != nil || len(first.Apologies) != 2 || first.Next == "" || first.Sum.Open != 3 || first.Sum.OpenUnits != 6 || len(first.Problems) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	last, err := ann.Apologies(t.Context(), "p", []string{"open"}, 2, first.Next)
	if err != nil || len(last.Apologies) != 1 || last.Next != "" || last.Apologies[0].Hold != "h2" {
		t.Fatalf("%+v, %v", last, err)
	}
	id := first.Apologies[0].ID
	if rec, changed, err := ann.AcknowledgeApology(t.Context(), "p", id, "called"); err != nil || !changed || rec.AckedBy != "ann" || rec.Acked != 2 || rec.AckedAt.IsZero() {
		t.Fatalf("%+v, %v, %v", rec, changed, err)
	}
	if rec, changed, err := bob.AcknowledgeApology(t.Context(), "p", id, "me too"); err != nil || changed || rec.AckedBy != "ann" {
		t.Fatalf("%+v, %v, %v", rec, changed, err)
	}
	if l, err := bob.Apologies(t.Context(), "p", []string{"acknowledged"}, 0, ""); err != nil || len(l.Apologies) != 1 || l.Apologies[0].ID != id || l.Sum.Acked != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	_, badState := ann.Apologies(t.Context(), "p", []string{"lost"}, 0, "")
	_, badAfter := ann.Apologies(t.Context(), "p", nil, 0, "x")
	_, badLimit := ann.Apologies(t.Context(), "p", nil, 999, "")
	_, _, badWhy := ann.AcknowledgeApology(t.Context(), "p", id, "")
	_, _, badID := ann.AcknowledgeApology(t.Context(), "p", "x", "x")
	_, _, none := ann.AcknowledgeApology(t.Context(), "p", strings.Repeat("0", 32), "x")
	for _, x := range []struct {
		err  error
		code connect.Code
		want string
	}{
		{badState, connect.CodeInvalidArgument, "state"}, {badAfter, connect.CodeInvalidArgument, "after"}, {badLimit, connect.CodeInvalidArgument, "limit"},
		{badWhy, connect.CodeInvalidArgument, "why"}, {badID, connect.CodeInvalidArgument, "id"}, {none, connect.CodeNotFound, "no apology"},
	} {
		re, ok := x.err.(*admin.RemoteError) //nolint:errorlint // the client answers it unwrapped
		if !ok || re.Code != x.code || !strings.Contains(re.Text, x.want) {
			t.Errorf("%v, want %s and %q", x.err, x.code, x.want)
		}
	}
}
