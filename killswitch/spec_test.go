package killswitch

import (
	goflag "flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// The specification in docs/spec takes its steps from here: what this test writes is included by the model, so the two
// cannot differ. A change of Steps that breaks an invariant is found by `make spec`.

var updateSpec = goflag.Bool("update-spec", false, "write docs/spec/moves.pml anew")

const specTable = "../docs/spec/moves.pml"

// Epochs that stand for those of a record, and the fence that a switch found at Redis.
const (
	specFrom, specTarget, specUndo = 1, 2, 3
	specWas                        = 9
)

// specPlans are all switches there are, in the order of the model's numbers.
func specPlans() []Switch {
	move := func(from, to backends.Stage, filled bool) Switch {
		return Switch{Kind: KindMove, From: from, To: to, FromFilled: filled}
	}
	realign := func(s backends.Stage) Switch { return Switch{Kind: KindRealign, From: s, To: s} }
	return []Switch{
		move(backends.RedisOnly, backends.Shadow, false),
		move(backends.Shadow, backends.Live, false),
		move(backends.Shadow, backends.RedisOnly, false),
		move(backends.Live, backends.Shadow, true),
		move(backends.Live, backends.MySQLOnly, true),
		move(backends.Live, backends.MySQLOnly, false),
		move(backends.MySQLOnly, backends.Live, false),
		{Kind: KindFill, From: backends.Live, To: backends.Live},
		realign(backends.RedisOnly), realign(backends.Shadow), realign(backends.Live), realign(backends.MySQLOnly),
		{Kind: KindRealign, From: backends.Live, To: backends.Live, Complete: true},
	}
}

func specFence(f backends.Fence) string {
	epoch := map[uint64]string{specFrom: "c_from", specTarget: "c_epoch", specUndo: "c_undoe"}[f.Epoch]
	if f.Epoch == specWas {
		return "c_was"
	}
	bit := map[bool]int{true: 1}
	return fmt.Sprintf("FENCE(%s,%d,%d,%d)", epoch, f.Stage-backends.RedisOnly, bit[f.Open], bit[f.Filled])
}

func specAmong(fs []backends.Fence) string {
	var terms []string
	for _, f := range fs {
		if t := "have == " + specFence(f); !strings.Contains(strings.Join(terms, "|"), t) {
			terms = append(terms, t)
		}
	}
	if len(terms) == 0 {
		return "0"
	}
	return strings.Join(terms, " || ")
}

func specSteps() string {
	var step, at, path strings.Builder
	acts := map[Act]string{ActRaise: "RAISE", ActDrain: "DRAIN", ActRestore: "RESTORE", ActServe: "SERVE"}
	bit := map[bool]int{true: 1}
	one := func(p int, sw Switch) {
		steps := sw.steps()
		for i, s := range steps {
			act := acts[s.Act]
			if s.Act == ActRaise {
				act += "_" + strings.ToUpper(s.Side.String()[:1])
			}
			where := fmt.Sprintf(":: c_plan == %d && c_undo == %d && c_step == %d", p, bit[sw.Undo], i)
			if !sw.Undo || sw.UndoneAt == 0 {
				fmt.Fprintf(&step, "  %s -> s_act = %s; s_fence = %s; s_best = %d; s_anew = %d /* %s */\n", where, act, specFence(s.Fence), bit[s.BestEffort], bit[s.Anew], s.Name)
			}
			if sw.Undo {
				where += fmt.Sprintf(" && c_undoneat == %d", sw.UndoneAt)
			}
			if s.Act == ActRaise && s.Side == backends.SideRedis && !s.BestEffort {
				fmt.Fprintf(&at, "  %s -> yes = (%s)\n", where, specAmong(s.Expect))
			}
			sw.Step = i
			fmt.Fprintf(&path, "  %s -> yes = (%s)\n", where, specAmong(sw.redisMayBe()))
		}
	}
	var noReturn, serves strings.Builder
	for p, sw := range specPlans() {
		sw.FromEpoch, sw.Epoch, sw.UndoEpoch, sw.RedisWas = specFrom, specTarget, specUndo, backends.Fence{Epoch: specWas}
		one(p, sw)
		fmt.Fprintf(&noReturn, "  :: c_plan == %d -> limit = %d\n", p, NoReturn(sw))
		fmt.Fprintf(&serves, "  :: c_plan == %d -> opened = %d\n", p, mayOpenFrom(sw))
		if UndoSteps(sw) == nil {
			continue
		}
		for k := range NoReturn(sw) {
			back := sw
			back.Undo, back.UndoneAt = true, k
			one(p, back)
		}
	}
	return "/* Made from killswitch.Steps, UndoSteps and NoReturn by killswitch/spec_test.go; do not edit. */\n" +
		"inline the_step() {\n  if\n" + step.String() + "  fi\n}\n" +
		"/* Whether a raise of Redis may start from have. */\ninline expected() {\n  if\n" + at.String() + "  :: else -> yes = 1\n  fi\n}\n" +
		"/* Whether the record allows Redis to be at have. */\ninline on_path() {\n  if\n" + path.String() + "  :: else -> yes = 0\n  fi\n}\n" +
		"/* The first step from which on there is no undoing. */\ninline no_return() {\n  if\n" + noReturn.String() + "  fi\n}\n" +
		"/* From which step on MySQL may have been opened where it did not decide before. */\ninline may_open_from() {\n  if\n" + serves.String() + "  fi\n}\n"
}

// mayOpenFrom is the first step at which mayHaveOpenedMySQL holds, or one that there is not.
func mayOpenFrom(sw Switch) int {
	const never = 9
	for i := range sw.forward() {
		if sw.Step = i; sw.mayHaveOpenedMySQL() {
			return i
		}
	}
	return never
}

func TestTheSpecificationHasTheSteps(t *testing.T) {
	want := specSteps()
	if *updateSpec {
		if err := os.WriteFile(specTable, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(specTable)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Fatalf("%s is not what the steps are; run 'go test ./killswitch -run TestTheSpecificationHasTheSteps -update-spec', then 'make spec'", specTable)
	}
}
