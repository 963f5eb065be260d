package backends_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
)

// refused wants a *FieldError whose text tells what, why and what next; part is in it.
func refused(t *testing.T, name string, err error, part string) {
	t.Helper()
	var fe *backends.FieldError
	if !errors.As(err, &fe) {
		t.Fatalf("%s: answered %v, want a FieldError", name, err)
	}
	if fe.Field == "" || fe.Value == "" || fe.Bound == "" || fe.Next == "" {
		t.Fatalf("%s: the error leaves something out: %+v", name, fe)
	}
	if !strings.Contains(err.Error(), part) {
		t.Fatalf("%s: the error is %q, want %q in it", name, err, part)
	}
	if len(err.Error()) > 1000 {
		t.Fatalf("%s: the error has %d bytes", name, len(err.Error()))
	}
	if !backends.IsRejection(err) || backends.IsAmbiguous(err) {
		t.Fatalf("%s: a bad input is the caller's own fault and certain", name)
	}
}

// roundTrip writes a value as JSON and reads it back.
func roundTrip[T any](t *testing.T, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if d := cmp.Diff(v, back); d != "" {
		t.Fatalf("through %s (-want +got):\n%s", b, d)
	}
}

func TestErrorKinds(t *testing.T) {
	for _, c := range []struct {
		name                 string
		err                  error
		rejection, ambiguous bool
	}{
		{"nothing", nil, false, false},
		{"a conflict", backends.ErrHoldConflict, true, false},
		{"a field", &backends.FieldError{}, true, false},
		{"unknown stock", &backends.UnknownStockError{}, true, false},
		{"fenced", &backends.FencedError{}, false, false},
		{"busy", backends.ErrBusy, false, false},
		{"unavailable", backends.ErrUnavailable, false, false},
		{"ambiguous", backends.ErrAmbiguous, false, true},
		{"stale", backends.ErrStaleAttempt, false, false},
		{"damaged", backends.ErrDamaged, false, false},
		{"out of order", backends.ErrOutOfOrder, false, false},
	} {
		for _, err := range []error{c.err, wrapped(c.err)} {
			if got := backends.IsRejection(err); got != c.rejection {
				t.Errorf("%s: IsRejection is %v", c.name, got)
			}
			if got := backends.IsAmbiguous(err); got != c.ambiguous {
				t.Errorf("%s: IsAmbiguous is %v", c.name, got)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errors.New("outer"), err)
}

func TestErrorTexts(t *testing.T) {
	fenced := &backends.FencedError{
		Side: backends.SideRedis, Want: backends.Token{Epoch: 3},
		Have: backends.Fence{Epoch: 4, Stage: backends.Live, Open: true},
	}
	if got, want := fenced.Error(), "redis fence is at epoch 4 live open, filling and refuses epoch 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	unknown := &backends.UnknownStockError{Key: backends.Key{Shop: "s", Item: "i", Location: "l"}}
	for _, part := range []string{`shop "s"`, `item "i"`, `location "l"`, "stock load"} {
		if !strings.Contains(unknown.Error(), part) {
			t.Errorf("%q lacks %q", unknown.Error(), part)
		}
	}
}
