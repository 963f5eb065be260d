package backends

import (
	"fmt"
	"strings"
)

// Side is one of the two kinds of store that a pod has.
type Side uint8

// The sides. The zero value is unknown and never serves anything.
const (
	SideUnknown Side = iota
	SideRedis
	SideMySQL
)

// String gives "redis", "mysql" or "unknown".
func (s Side) String() string {
	switch s {
	case SideRedis:
		return "redis"
	case SideMySQL:
		return "mysql"
	default:
		return "unknown"
	}
}

// Other gives the opposite side.
func (s Side) Other() Side {
	switch s {
	case SideRedis:
		return SideMySQL
	case SideMySQL:
		return SideRedis
	default:
		return SideUnknown
	}
}

// Stage says which store is the truth of a pod and which the shadow.
type Stage uint8

// The stages, in the order in which a pod passes through them.
const (
	StageUnknown Stage = iota
	RedisOnly
	Shadow
	Live
	MySQLOnly
)

var stageNames = [...]string{"unknown", "redis-only", "shadow", "live", "mysql-only"}

// String gives the name used in commands, metrics and files.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "unknown"
}

// MarshalText and UnmarshalText carry a stage by its name.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Stage) UnmarshalText(b []byte) error {
	if string(b) == stageNames[StageUnknown] {
		*s = StageUnknown // what the zero value is written as
		return nil
	}
	p, err := ParseStage(string(b))
	if err == nil {
		*s = p
	}
	return err
}

// ParseStage reads a stage by its name.
func ParseStage(name string) (Stage, error) {
	for i := int(RedisOnly); i < len(stageNames); i++ {
		if stageNames[i] == name {
			return Stage(i), nil
		}
	}
	return StageUnknown, &FieldError{Field: "stage", Value: abbreviate(name), Bound: "one of " + strings.Join(stageNames[1:], ", "), Next: "see 'crossfade pods' for the stage that each pod is in"}
}

// Truth is the side whose verdicts count.
func (s Stage) Truth() Side {
	switch s {
	case RedisOnly, Shadow:
		return SideRedis
	case Live, MySQLOnly:
		return SideMySQL
	default:
		return SideUnknown
	}
}

// Dual tells whether every state is mirrored.
func (s Stage) Dual() bool { return s == Shadow || s == Live }

// TakesMirrors tells whether a side accepts mirrored states in this stage: the shadow does, and
// in redis-only MySQL does too, since the ledger is there.
func (s Stage) TakesMirrors(side Side) bool {
	switch s {
	case RedisOnly, Shadow:
		return side == SideMySQL
	case Live:
		return side == SideRedis
	default:
		return false
	}
}

// Token is what every write carries: the epoch under which its sender serves.
type Token struct {
	Epoch uint64
}

// Fence is a store's own record of the epoch and stage that it serves.
type Fence struct {
	Epoch uint64 `json:"epoch"`
	Stage Stage  `json:"stage"`
	Open  bool   `json:"open"`
	// Filled matters in live: false while Redis is being filled after mysql-only. Until then
	// answers do not wait for Redis, and a kill is refused.
	Filled bool `json:"filled"`
	// Alone in live, once filled: MySQL may answer without Redis in this epoch, while the control store marks the pod
	// as redis behind (DESIGN §6), so a kill has to ask there first. Where Redis is the truth: MySQL may have done so in
	// the epoch that a kill has ended, and the kill could not bring all of it to Redis: what only MySQL has may have been
	// acknowledged.
	Alone bool `json:"alone,omitempty"`
}

// Outranks tells whether f may replace o: a higher epoch, or the opening of the same one.
func (f Fence) Outranks(o Fence) bool {
	return f.Epoch > o.Epoch || f.Epoch == o.Epoch && f.Open && !o.Open
}

// Admits tells whether side may decide as truth under t.
func (f Fence) Admits(t Token, side Side) bool {
	return f.Open && t.Epoch != 0 && f.Epoch == t.Epoch && side != SideUnknown && f.Stage.Truth() == side
}

// AdmitsMirror tells whether side may apply mirrored states under t.
func (f Fence) AdmitsMirror(t Token, side Side) bool {
	return f.Open && t.Epoch != 0 && f.Epoch == t.Epoch && f.Stage.TakesMirrors(side)
}

// Arbitrates tells whether an answer has to wait until Redis has accepted its mirror.
func (f Fence) Arbitrates() bool { return f.Stage == Live && f.Filled }

// MayAnswerAlone tells whether MySQL may be acknowledged without Redis under f, once the pod is marked.
func (f Fence) MayAnswerAlone() bool { return f.Arbitrates() && f.Alone }

func (f Fence) String() string {
	door := "closed"
	if f.Open {
		door = "open"
	}
	if f.Stage == Live && !f.Filled {
		door += ", filling"
	}
	switch {
	case f.MayAnswerAlone():
		door += ", alone if marked"
	case f.Alone && f.Stage.Truth() == SideRedis:
		door += ", after answers without Redis"
	}
	return fmt.Sprintf("epoch %d %s %s", f.Epoch, f.Stage, door)
}
